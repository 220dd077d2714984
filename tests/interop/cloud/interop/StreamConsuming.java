package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.springframework.cloud.stream.binder.PollableMessageSource;
import org.springframework.core.ParameterizedTypeReference;
import org.springframework.messaging.support.MessageBuilder;

/** Every way to consume, for one member of a group. */
final class StreamConsuming {
    private StreamConsuming() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("tag-filter", StreamConsuming::tagFilter);
        cases.put("sql-filter", StreamConsuming::sqlFilter);
        cases.put("orderly-suspend", StreamConsuming::orderlySuspend);
        cases.put("retry", StreamConsuming::retry);
        cases.put("dead-letter", StreamConsuming::deadLetter);
        cases.put("offsets-are-kept", StreamConsuming::offsetsAreKept);
        cases.put("polled", StreamConsuming::polled);
        cases.put("long-polling", StreamConsuming::longPolling);
        cases.put("from-last-offset", StreamConsuming::fromLastOffset);
        cases.put("reset-offset", StreamConsuming::resetOffset);
    }

    private static void tagFilter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group"))
            .input("subscription", "TagA || TagC").start();
        List<String> wanted = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            String letter = "" + (char) ('A' + i % 4);
            app.send(MessageBuilder.withPayload(letter + i).setHeader("TAGS", "Tag" + letter).build());
            if (i % 2 == 0) {
                wanted.add(letter + i);
            }
        }
        app.inbox().expect(wanted);
    }

    private static void sqlFilter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group"))
            .input("subscription", "sql:price BETWEEN 4 AND 9 AND colour = 'red'").start();
        for (int i = 0; i < 20; i++) {
            app.send(MessageBuilder.withPayload("m" + i).setHeader("price", i).setHeader("colour", i % 2 == 0 ? "red" : "blue")
                .build());
        }
        app.inbox().expect(Arrays.asList("m4", "m6", "m8"));
    }

    /** An orderly function that throws sees the same message again before any later one. */
    private static void orderlySuspend(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        Inbox inbox = new Inbox();
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).input("push.orderly", "true")
            .input("push.suspend-current-queue-time-millis", "100").handle(message -> {
                inbox.add(message);
                if (inbox.messages().size() == 2) {
                    throw new IllegalStateException("not yet");
                }
            }).start();
        app.sendMany("m", 3);
        inbox.await(4);
        Kit.equal(Arrays.asList("m0", "m1", "m1", "m2"), inbox.bodies(), "order");
    }

    /** The binder looks for new topics every 30 seconds only: an earlier member made the retry topic. */
    private static void makeRetryTopic(Kit kit, String topic, String group) throws Exception {
        DefaultMQPushConsumer earlier = kit.consumer(group, topic, "*");
        earlier.registerMessageListener(new Inbox());
        earlier.start();
        Kit.untilNoException(() -> kit.producer().fetchPublishMessageQueues("%RETRY%" + group));
        earlier.shutdown();
    }

    private static void retry(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        String group = kit.unique("group");
        makeRetryTopic(kit, topic, group);
        Inbox inbox = new Inbox();
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, group).input("push.delay-level-when-next-consume", "1")
            .handle(message -> {
                inbox.add(message);
                if (inbox.messages().size() < 3) {
                    throw new IllegalStateException("not yet");
                }
            }).start();
        app.send(MessageBuilder.withPayload("again").setHeader("TAGS", "TagA").build());
        for (MessageExt got : inbox.await(3)) {
            Kit.equal("again", Kit.text(got.getBody()), "body");
            Kit.equal(topic, got.getTopic(), "topic");
            Kit.equal("TagA", got.getTags(), "tags");
        }
    }

    /** The level -1 sends what fails to the dead letters at once. */
    private static void deadLetter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, group).input("push.delay-level-when-next-consume", "-1")
            .handle(message -> {
                inbox.add(message);
                throw new IllegalStateException("never");
            }).start();
        app.send("dead");
        inbox.await(1);
        MessageExt got = kit.collect("%DLQ%" + group).awaitOne();
        Kit.equal(StreamApp.json("dead"), Kit.text(got.getBody()), "body");
        Kit.equal(1, inbox.messages().size(), "deliveries");
    }

    private static void offsetsAreKept(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        StreamApp first = new StreamApp(kit).sendTo(topic).consume(topic, group).start();
        first.sendMany("m", 10);
        first.inbox().expect(Kit.numbered(10));
        first.close();
        StreamApp second = new StreamApp(kit).sendTo(topic).consume(topic, group).start();
        second.send("later");
        second.inbox().expect(Collections.singletonList("later"));
    }

    /** A pull that is answered when a message comes: one that is not would be held for 15 seconds. */
    private static void longPolling(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        app.send("first");
        app.inbox().await(1);
        for (int i = 0; i < 10; i++) {
            long sent = System.currentTimeMillis();
            app.send("m" + i);
            app.inbox().await(i + 2);
            long took = System.currentTimeMillis() - sent;
            Kit.check(took < 10_000, "a message took " + took + " ms");
        }
    }

    private static void fromLastOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> Kit.send(producer, topic, "", StreamApp.json("before")));
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group"))
            .input("consume-from-where", "CONSUME_FROM_LAST_OFFSET").start();
        Kit.eventually(true, () -> {
            app.send("after");
            return app.inbox().bodies().contains("after");
        }, "later messages come");
    }

    /** The broker tells the consumer, which looks at the new offsets ten seconds later. */
    private static void resetOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 2);
        String group = kit.unique("group");
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, group).start();
        app.sendMany("m", 5);
        app.inbox().expect(Kit.numbered(5));
        Kit.equal(2, kit.resetOffsets(producer, topic, group).size(), "queues whose offset is another");
        List<String> expected = new ArrayList<>(Kit.numbered(5));
        expected.addAll(Kit.numbered(5));
        app.inbox().expect(expected);
    }

    /** A PollableMessageSource, which pulls. */
    private static void polled(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        StreamApp app = new StreamApp(kit).sendTo(topic).set("spring.cloud.stream.pollable-source", "polled")
            .set("spring.cloud.stream.bindings.polled-in-0.destination", topic)
            .set("spring.cloud.stream.bindings.polled-in-0.group", kit.unique("group"))
            .set("spring.cloud.stream.rocketmq.bindings.polled-in-0.consumer.consume-from-where", "CONSUME_FROM_FIRST_OFFSET")
            .set("spring.cloud.stream.rocketmq.bindings.polled-in-0.consumer.pull.poll-timeout-millis", "500").start();
        app.sendMany("m", 20);
        List<String> bodies = new ArrayList<>();
        PollableMessageSource source = app.bean(PollableMessageSource.class);
        Kit.eventually(20, () -> {
            source.poll(message -> bodies.add((String) message.getPayload()), new ParameterizedTypeReference<String>() { });
            return bodies.size();
        }, "messages polled");
        Collections.sort(bodies);
        List<String> wanted = new ArrayList<>(Kit.numbered(20));
        Collections.sort(wanted);
        Kit.equal(wanted, bodies, "messages polled");
    }
}
