package interop;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.springframework.messaging.support.MessageBuilder;

/** StreamBridge: every way to send that the binder knows. */
final class StreamSending {
    private StreamSending() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("normal", StreamSending::normal);
        cases.put("async", kit -> sendType(kit, "Async"));
        cases.put("one-way", kit -> sendType(kit, "OneWay"));
        cases.put("chosen-queue", StreamSending::chosenQueue);
        cases.put("empty-and-4-MiB-bodies", StreamSending::sizes);
        cases.put("refused-names", StreamSending::refusedNames);
        cases.put("compressed-zlib", StreamSending::compressed);
        cases.put("ordered", StreamSending::ordered);
        cases.put("delayed", StreamSending::delayed);
        cases.put("message-trace", StreamSending::trace);
    }

    private static void normal(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        app.send(MessageBuilder.withPayload("h\u00e9llo \u8ba2\u5355").setHeader("KEYS", "key1 key2").setHeader("TAGS", "TagA")
            .setHeader("colour", "d\u00fcnkel\u8ba2").build());
        MessageExt got = app.inbox().awaitOne();
        Kit.equal("h\u00e9llo \u8ba2\u5355", Kit.text(got.getBody()), "body");
        Kit.equal(topic, got.getTopic(), "topic");
        Kit.equal("TagA", got.getTags(), "tags");
        Kit.equal("key1 key2", got.getKeys(), "keys");
        Kit.equal("d\u00fcnkel\u8ba2", got.getUserProperty("colour"), "header");
    }

    private static void sendType(Kit kit, String type) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).output("send-type", type).consume(topic, kit.unique("group")).start();
        app.sendMany("m", 20);
        app.inbox().expect(Kit.numbered(20));
    }

    /** The partition is the queue. */
    private static void chosenQueue(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group"))
            .set("spring.cloud.stream.bindings.output.producer.partition-key-expression", "headers['queue']")
            .set("spring.cloud.stream.bindings.output.producer.partition-count", "4").start();
        for (int i = 0; i < 8; i++) {
            app.send(MessageBuilder.withPayload("m" + i).setHeader("queue", i % 4).build());
        }
        app.inbox().expect(Kit.numbered(8));
        for (MessageExt got : app.inbox().messages()) {
            int number = Integer.parseInt(Kit.text(got.getBody()).substring(1));
            Kit.equal(number % 4, got.getQueueId(), "queue of m" + number);
        }
    }

    private static String text(int length) {
        char[] letters = new char[length];
        Arrays.fill(letters, 'x');
        return new String(letters);
    }

    /** A text of 4 MiB with the quotes that make it JSON, and one that has nothing else. */
    private static void sizes(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        String large = text(4 * 1024 * 1024 - 2);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group"))
            .output("max-message-size", "" + 8 * 1024 * 1024).output("compress-msg-body-threshold", "" + Integer.MAX_VALUE).start();
        app.send(large);
        Kit.check(large.equals(Kit.text(app.inbox().awaitOne().getBody())), "the body is another");
        kit.expectRefused("a body of more than 4 MiB", () -> {
            app.send(large + "x");
            return null;
        });
        app.send("");
        Kit.equal("", Kit.text(app.inbox().await(2).get(1).getBody()), "body of the empty text");
    }

    private static void refusedNames(Kit kit) throws Exception {
        for (String topic : new String[] {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"}) {
            StreamApp app = new StreamApp(kit).sendTo(topic).start();
            kit.expectRefused("a message to " + topic, () -> {
                app.send("x");
                return null;
            });
        }
    }

    private static void compressed(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        String body = text(100_000);
        Inbox stored = kit.collect(topic);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        app.send(body);
        Kit.check(body.equals(Kit.text(app.inbox().awaitOne().getBody())), "the body is another");
        MessageExt got = stored.awaitOne();
        Kit.check(got.getStoreSize() < 2000, "stored with " + got.getStoreSize() + " bytes");
    }

    /** Messages of one partition key keep their order: one queue, consumed in order. */
    private static void ordered(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).input("push.orderly", "true")
            .set("spring.cloud.stream.bindings.output.producer.partition-key-expression", "headers['order']")
            .set("spring.cloud.stream.bindings.output.producer.partition-count", "4").start();
        for (int i = 0; i < 100; i++) {
            app.send(MessageBuilder.withPayload("m" + i).setHeader("order", i % 10).build());
        }
        app.inbox().expect(Kit.numbered(100));
        Map<Integer, Integer> queues = new HashMap<>();
        int[] last = new int[10];
        for (MessageExt got : app.inbox().messages()) {
            int number = Integer.parseInt(Kit.text(got.getBody()).substring(1));
            int order = number % 10;
            queues.putIfAbsent(order, got.getQueueId());
            Kit.equal(queues.get(order), got.getQueueId(), "queue of order " + order);
            Kit.check(number >= last[order], "order " + order + ": " + number + " after " + last[order]);
            last[order] = number;
        }
        Kit.check(queues.values().stream().distinct().count() > 1, "more than one queue");
    }

    private static void delayed(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        app.send("first");
        app.inbox().await(1); /* from now on the consumer waits in the broker */
        long due = System.currentTimeMillis() + 5000;
        app.send(MessageBuilder.withPayload("later").setHeader("DELAY", 2).setHeader("colour", "blue").build());
        app.send("at once");
        app.inbox().await(3);
        long came = System.currentTimeMillis();
        Kit.equal(Arrays.asList("first", "at once", "later"), app.inbox().bodies(), "order");
        Kit.check(came >= due && came < due + 20_000, "due at " + due + ", came at " + came);
        Kit.equal("blue", app.inbox().messages().get(2).getUserProperty("colour"), "header");
    }

    /**
     * The binder's default: what is sent and consumed leaves a trace. The applications of a process share the producer of traces,
     * and it loses some when one of them ends, so there are several messages.
     */
    private static void trace(Kit kit) throws Exception {
        Inbox traces = kit.collect(kit.unique("group"), "RMQ_SYS_TRACE_TOPIC", "*");
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        Kit.eventually(true, () -> {
            app.send("traced");
            app.inbox().awaitOne();
            Thread.sleep(200);
            return app.inbox().messages().stream().map(MessageExt::getMsgId).anyMatch(id -> hasTraces(traces, id));
        }, "a message has all its traces");
    }

    private static boolean hasTraces(Inbox traces, String id) {
        return Stream.of("Pub", "SubBefore", "SubAfter")
            .allMatch(type -> traces.bodies().stream().anyMatch(b -> b.contains(type) && b.contains(id)));
    }
}
