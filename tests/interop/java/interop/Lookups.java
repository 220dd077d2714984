package interop;

import java.util.Map;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Finding messages again. */
final class Lookups {
    private Lookups() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("view-by-id", Lookups::viewById);
        cases.put("query-by-key", Lookups::queryByKey);
        cases.put("offset-by-time", Lookups::offsetByTime);
    }

    private static void viewById(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "first");
        SendResult result = Kit.send(producer, topic, "TagA", "found");
        for (String id : new String[] {result.getOffsetMsgId(), result.getMsgId()}) {
            MessageExt found = Kit.untilNoException(() -> producer.viewMessage(topic, id));
            kit.note(id.equals(result.getMsgId()) ? "by its own id" : "by its offset", found);
            Kit.equal("found", Kit.text(found.getBody()), "body by " + id);
            Kit.equal(result.getMsgId(), found.getMsgId(), "id by " + id);
            Kit.equal(topic, found.getTopic(), "topic by " + id);
        }
    }

    private static void queryByKey(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        long begin = System.currentTimeMillis() - 1000;
        for (int i = 0; i < 10; i++) {
            producer.send(new Message(topic, "", "shared own" + i, Kit.bytes("m" + i)));
        }
        Kit.eventually(10, () -> query(producer, topic, "shared", begin).getMessageList().size(), "messages with a key");
        QueryResult one = query(producer, topic, "own3", begin);
        Kit.equal("[m3]", one.getMessageList().stream().map(m -> Kit.text(m.getBody())).collect(Collectors.toList()).toString(),
            "messages with the other key");
        try {
            producer.queryMessage(topic, "nobody", 32, begin, System.currentTimeMillis());
            throw new AssertionError("a key that nobody has was found");
        } catch (MQClientException e) {
            Kit.equal(208, e.getResponseCode(), "NO_MESSAGE");
        }
    }

    private static QueryResult query(DefaultMQProducer producer, String topic, String key, long begin) throws Exception {
        return Kit.untilNoException(
            () -> producer.queryMessage(topic, key, 32, begin, System.currentTimeMillis() + 1000));
    }

    private static void offsetByTime(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        MessageQueue queue = Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic)).get(0);
        long[] before = new long[5];
        for (int i = 0; i < 5; i++) {
            before[i] = System.currentTimeMillis();
            Kit.send(producer, topic, "", "m" + i);
            Thread.sleep(20);
        }
        for (int i = 0; i < 5; i++) {
            Kit.equal((long) i, producer.searchOffset(queue, before[i]), "offset at the time of message " + i);
        }
        Kit.equal(5L, producer.maxOffset(queue), "maximum");
        Kit.equal(0L, producer.minOffset(queue), "minimum");
        Kit.check(producer.earliestMsgStoreTime(queue) >= before[0], "time of the first");
        Kit.equal(0L, producer.searchOffset(queue, 0), "offset of the epoch");
    }
}
