package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Every way to send. */
final class Sending {
    private Sending() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("normal", Sending::normal);
        cases.put("async", Sending::async);
        cases.put("one-way", Sending::oneWay);
        cases.put("batch", Sending::batch);
        cases.put("chosen-queue", Sending::chosenQueue);
        cases.put("empty-and-4-MiB-bodies", Sending::sizes);
        cases.put("compressed-zlib", kit -> compressed(kit, null));
        if (Kit.isVersion5()) {
            cases.put("compressed-lz4", kit -> compressed(kit, "LZ4"));
            cases.put("compressed-zstd", kit -> compressed(kit, "ZSTD"));
        }
        cases.put("create-topic", Sending::createTopic);
        cases.put("refused-names", Sending::refusedNames);
    }

    /** Every field of a message arrives as it was sent, and what the broker adds is what RocketMQ's adds. */
    private static void normal(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        long before = System.currentTimeMillis();
        Message message = new Message(topic, "TagA", "key1 key2", Kit.bytes("h\u00e9llo \u8ba2\u5355"));
        message.setFlag(7);
        message.putUserProperty("colour", "d\u00fcnkel\u8ba2");
        SendResult result = producer.send(message);
        Kit.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
        Kit.equal(32, result.getOffsetMsgId().length(), "length of the offset message id");
        Kit.equal(0L, result.getQueueOffset(), "queue offset");
        Kit.equal("DefaultRegion", result.getRegionId(), "region");
        Kit.check(result.isTraceOn(), "trace is on");
        Kit.equal("escrow-a", result.getMessageQueue().getBrokerName(), "broker name");

        MessageExt got = kit.collect(topic).awaitOne();
        kit.note("message", got);
        kit.note("WAIT", got.getProperty("WAIT"));
        Kit.equal("h\u00e9llo \u8ba2\u5355", Kit.text(got.getBody()), "body");
        Kit.equal(topic, got.getTopic(), "topic");
        Kit.equal("TagA", got.getTags(), "tags");
        Kit.equal("key1 key2", got.getKeys(), "keys");
        Kit.equal("d\u00fcnkel\u8ba2", got.getUserProperty("colour"), "user property");
        Kit.equal(7, got.getFlag(), "flag");
        Kit.equal(result.getMsgId(), got.getMsgId(), "message id");
        Kit.equal(result.getMessageQueue().getQueueId(), got.getQueueId(), "queue id");
        Kit.equal(0L, got.getQueueOffset(), "queue offset of the message");
        Kit.equal(0, got.getReconsumeTimes(), "reconsume times");
        Kit.equal("0", got.getProperty("MIN_OFFSET"), "MIN_OFFSET");
        Kit.equal("1", got.getProperty("MAX_OFFSET"), "MAX_OFFSET");
        Kit.equal("DefaultRegion", got.getProperty("MSG_REGION"), "MSG_REGION");
        Kit.equal("true", got.getProperty("TRACE_ON"), "TRACE_ON");
        Kit.equal("DefaultCluster", got.getProperty("CLUSTER"), "CLUSTER");
        Kit.check(got.getBornTimestamp() >= before && got.getStoreTimestamp() >= before, "times");
        Kit.equal("127.0.0.1", got.getBornHostString(), "born host");
        Kit.equal(kit.broker, got.getStoreHost().toString().replace("/", ""), "store host");
    }

    private static void async(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "m0");
        CountDownLatch done = new CountDownLatch(99);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 1; i < 100; i++) {
            producer.send(new Message(topic, Kit.bytes("m" + i)), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    failure.set(e);
                    done.countDown();
                }
            });
        }
        Kit.check(done.await(30, TimeUnit.SECONDS), "callbacks missing: " + done.getCount());
        Kit.equal(null, failure.get(), "failure of a send");
        kit.collect(topic).expect(Kit.numbered(100));
    }

    private static void oneWay(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        for (int i = 0; i < 50; i++) {
            producer.sendOneway(new Message(topic, Kit.bytes("m" + i)));
        }
        kit.collect(topic).expect(Kit.numbered(50));
    }

    /** One frame, many messages, each with its own id, key and properties; in one queue, one behind the other. */
    private static void batch(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 60; i++) {
            Message message = new Message(topic, "T" + i % 3, "k" + i, Kit.bytes("m" + i));
            message.putUserProperty("number", "" + i);
            batch.add(message);
        }
        SendResult result = producer.send(batch);
        Kit.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
        Kit.equal(60, result.getMsgId().split(",").length, "number of message ids");
        String[] offsetIds = result.getOffsetMsgId().split(",");
        Kit.equal(60, offsetIds.length, "number of offset message ids");
        Inbox inbox = kit.collect(topic);
        inbox.expect(Kit.numbered(60));
        kit.note("message", inbox.messages().stream().filter(m -> m.getQueueOffset() == 59).findFirst().get());
        for (MessageExt got : inbox.messages()) {
            String number = Kit.text(got.getBody()).substring(1);
            Kit.equal(number, "" + got.getQueueOffset(), "queue offset");
            Kit.equal("k" + number, got.getKeys(), "keys");
            Kit.equal(number, got.getUserProperty("number"), "user property");
            Kit.equal(result.getMsgId().split(",")[Integer.parseInt(number)], got.getMsgId(), "message id");
            Kit.equal(offsetIds[Integer.parseInt(number)], ((MessageClientExt) got).getOffsetMsgId(), "offset message id");
        }
        Kit.equal(2L, producer.send(Arrays.asList(new Message(topic, Kit.bytes("x")), new Message(topic, Kit.bytes("y"))),
            result.getMessageQueue()).getQueueOffset() - 58, "offset of a second batch, to a chosen queue");
    }

    private static void chosenQueue(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        List<MessageQueue> queues = Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Kit.equal(4, queues.size(), "number of queues");
        for (int i = 0; i < 8; i++) {
            SendResult byQueue = producer.send(new Message(topic, Kit.bytes("m" + i)), queues.get(i % 4));
            Kit.equal(queues.get(i % 4), byQueue.getMessageQueue(), "queue");
            SendResult bySelector = producer.send(new Message(topic, Kit.bytes("n" + i)),
                (all, message, number) -> all.get((int) number), 3);
            Kit.equal(queues.get(3), bySelector.getMessageQueue(), "queue of the selector");
        }
    }

    private static void sizes(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        String topic = kit.unique("topic");
        byte[] large = new byte[4 * 1024 * 1024];
        new Random(1).nextBytes(large);
        Kit.equal(SendStatus.SEND_OK, producer.send(new Message(topic, large)).getSendStatus(), "status");
        Kit.check(Arrays.equals(large, kit.collect(topic).awaitOne().getBody()), "the body is another");
        kit.expectRefused("an empty body", () -> producer.send(new Message(topic, new byte[0])));
        try {
            producer.setMaxMessageSize(8 * 1024 * 1024);
            producer.send(new Message(topic, new byte[large.length + 1]));
            throw new AssertionError("a body of more than 4 MiB was taken");
        } catch (MQBrokerException e) {
            kit.note("too large", e);
            Kit.equal(13, e.getResponseCode(), "MESSAGE_ILLEGAL");
        }
    }

    private static void compressed(Kit kit, String type) throws Exception {
        DefaultMQProducer producer = kit.producer();
        if (type != null) {
            Kit.call(producer, "setCompressType", type);
        }
        String topic = kit.unique("topic");
        byte[] body = new byte[100_000];
        Arrays.fill(body, (byte) 'x');
        producer.send(new Message(topic, body));
        MessageExt got = kit.collect(topic).awaitOne();
        kit.note("message", got);
        Kit.check(Arrays.equals(body, got.getBody()), "the body is another");
        Kit.check(got.getStoreSize() < 2000, "stored with " + got.getStoreSize() + " bytes");
    }

    private static void createTopic(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 7);
        Kit.equal(7, Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic)).size(), "number of queues");
    }

    /** What RocketMQ refuses is refused with the exception that its users catch. */
    private static void refusedNames(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        for (String topic : new String[] {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"}) {
            try {
                producer.send(new Message(topic, Kit.bytes("x")));
                throw new AssertionError("a message to " + topic + " was taken");
            } catch (MQBrokerException e) {
                Kit.equal(16, e.getResponseCode(), "NO_PERMISSION for " + topic);
            } catch (MQClientException e) {
                Kit.check(e.getMessage().contains(topic), "refused for another reason: " + e);
            }
        }
    }
}
