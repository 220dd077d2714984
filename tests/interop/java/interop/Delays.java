package interop;

import java.util.Collections;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that come later. */
final class Delays {
    private Delays() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("delayed", kit -> comesWhenDue(kit, message -> {
            message.setDelayTimeLevel(2);
            return System.currentTimeMillis() + 5000;
        }));
        if (Kit.isVersion5()) {
            cases.put("timed-delay", kit -> comesWhenDue(kit, message -> {
                Kit.call(message, "setDelayTimeMs", 2500L);
                return System.currentTimeMillis() + 2500;
            }));
            cases.put("timed-deliver-at", kit -> comesWhenDue(kit, message -> {
                long due = System.currentTimeMillis() + 3000;
                Kit.call(message, "setDeliverTimeMs", due);
                return due;
            }));
            cases.put("recall", Delays::recall);
        }
    }

    /** A message that is taken back before it is due does not come; one that is due after it does. */
    private static void recall(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Inbox inbox = kit.collect(topic);
        long due = System.currentTimeMillis() + 10_000;
        SendResult taken = sendAt(producer, topic, "taken back", due);
        sendAt(producer, topic, "kept", due + 1000);
        Object handle = SendResult.class.getMethod("getRecallHandle").invoke(taken);
        Kit.check(handle != null, "no handle in the answer to the send");
        Object id = producer.getClass().getMethod("recallMessage", String.class, String.class).invoke(producer, topic, handle);
        Kit.equal(taken.getMsgId(), id, "id of the message that was taken back");
        inbox.expect(Collections.singletonList("kept"));
    }

    private static SendResult sendAt(DefaultMQProducer producer, String topic, String body, long due) throws Exception {
        Message message = new Message(topic, Kit.bytes(body));
        Kit.call(message, "setDeliverTimeMs", due);
        return producer.send(message);
    }

    interface Setting {
        long set(Message message) throws Exception; /* returns when it is due */
    }

    private static void comesWhenDue(Kit kit, Setting setting) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Inbox inbox = kit.collect(topic);
        Kit.send(producer, topic, "", "first");
        inbox.await(1); /* from now on the consumer waits in the broker */
        Message message = new Message(topic, Kit.bytes("later"));
        message.putUserProperty("colour", "blue");
        long due = setting.set(message);
        producer.send(message);
        Kit.send(producer, topic, "", "at once");
        inbox.await(3);
        long came = System.currentTimeMillis();
        Kit.equal("[first, at once, later]", inbox.bodies().toString(), "order");
        Kit.check(came >= due && came < due + 20_000, "due at " + due + ", came at " + came);
        MessageExt got = inbox.messages().get(2);
        kit.note("message", got);
        kit.note("REAL_TOPIC", got.getProperty("REAL_TOPIC"));
        kit.note("REAL_QID", got.getProperty("REAL_QID"));
        Kit.equal("blue", got.getUserProperty("colour"), "user property");
        Kit.equal(topic, got.getTopic(), "topic");
    }
}
