package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.springframework.messaging.support.MessageBuilder;

/** @RocketMQMessageListener: every way to consume, for one member of a group. */
final class ListenerConsuming {
    private ListenerConsuming() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("tag-filter", ListenerConsuming::tagFilter);
        cases.put("sql-filter", ListenerConsuming::sqlFilter);
        cases.put("orderly-suspend", ListenerConsuming::orderlySuspend);
        cases.put("retry", ListenerConsuming::retry);
        cases.put("dead-letter", ListenerConsuming::deadLetter);
        cases.put("offsets-are-kept", ListenerConsuming::offsetsAreKept);
        cases.put("receive", ListenerConsuming::receive);
        cases.put("long-polling", ListenerConsuming::longPolling);
        cases.put("from-last-offset", ListenerConsuming::fromLastOffset);
        cases.put("reset-offset", ListenerConsuming::resetOffset);
    }

    private static void tagFilter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.start(kit, Arrays.asList("topic=" + topic, "group=" + kit.unique("group"), "tags=TagA || TagC"),
            Listeners.Plain.class);
        List<String> wanted = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            String letter = "" + (char) ('A' + i % 4);
            app.template().syncSend(topic + ":Tag" + letter, letter + i);
            if (i % 2 == 0) {
                wanted.add(letter + i);
            }
        }
        app.inbox().expect(wanted);
    }

    private static void sqlFilter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Sql.class);
        for (int i = 0; i < 20; i++) {
            app.template().syncSend(topic, MessageBuilder.withPayload("m" + i).setHeader("price", i)
                .setHeader("colour", i % 2 == 0 ? "red" : "blue").build());
        }
        app.inbox().expect(Arrays.asList("m4", "m6", "m8"));
    }

    /** An orderly listener that throws sees the same message again before any later one. */
    private static void orderlySuspend(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Suspending.class);
        for (int i = 0; i < 3; i++) {
            app.template().syncSend(topic, "m" + i);
        }
        app.inbox().await(4);
        Kit.equal(Arrays.asList("m0", "m1", "m1", "m2"), app.inbox().bodies(), "order");
    }

    /** A pull that is answered when a message comes: one that is not would be held for 15 seconds. */
    private static void longPolling(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        app.template().syncSend(topic, "first");
        app.inbox().await(1);
        for (int i = 0; i < 10; i++) {
            long sent = System.currentTimeMillis();
            app.template().syncSend(topic, "m" + i);
            app.inbox().await(i + 2);
            long took = System.currentTimeMillis() - sent;
            Kit.check(took < 10_000, "a message took " + took + " ms");
        }
    }

    private static void fromLastOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> Kit.send(producer, topic, "", "before"));
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.FromLast.class);
        Kit.eventually(true, () -> {
            Kit.send(producer, topic, "", "after");
            return app.inbox().bodies().contains("after");
        }, "later messages come");
    }

    /** The broker tells the consumer, which looks at the new offsets ten seconds later. */
    private static void resetOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 2);
        String group = kit.unique("group");
        App app = App.listen(kit, topic, group, Listeners.Plain.class);
        for (int i = 0; i < 5; i++) {
            app.template().syncSend(topic, "m" + i);
        }
        app.inbox().expect(Kit.numbered(5));
        Kit.equal(2, kit.resetOffsets(producer, topic, group).size(), "queues whose offset is another");
        List<String> expected = new ArrayList<>(Kit.numbered(5));
        expected.addAll(Kit.numbered(5));
        app.inbox().expect(expected);
    }

    private static void retry(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Retrying.class);
        app.template().syncSend(topic + ":TagA", "again");
        List<MessageExt> got = app.inbox().await(3);
        for (int i = 0; i < 3; i++) {
            Kit.equal("again", Kit.text(got.get(i).getBody()), "body");
            Kit.equal(topic, got.get(i).getTopic(), "topic");
            Kit.equal("TagA", got.get(i).getTags(), "tags");
            Kit.equal(i, got.get(i).getReconsumeTimes(), "reconsume times");
        }
    }

    private static void deadLetter(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        String group = kit.unique("group");
        App app = App.listen(kit, topic, group, Listeners.Failing.class);
        app.template().syncSend(topic, "dead");
        app.inbox().await(2);
        MessageExt got = kit.collect("%DLQ%" + group).awaitOne();
        Kit.equal("dead", Kit.text(got.getBody()), "body");
        Kit.equal(2, app.inbox().messages().size(), "deliveries");
    }

    private static void offsetsAreKept(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App first = App.listen(kit, topic, group, Listeners.Plain.class);
        for (int i = 0; i < 10; i++) {
            first.template().syncSend(topic, "m" + i);
        }
        first.inbox().expect(Kit.numbered(10));
        first.close();
        App second = App.listen(kit, topic, group, Listeners.Plain.class);
        second.template().syncSend(topic, "later");
        second.inbox().expect(Collections.singletonList("later"));
    }

    /** RocketMQTemplate.receive, which pulls. */
    private static void receive(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.start(kit, Arrays.asList("rocketmq.pull-consumer.group=" + kit.unique("group"),
            "rocketmq.pull-consumer.topic=" + topic));
        List<String> got = new ArrayList<>();
        Kit.eventually(true, () -> {
            for (int i = 0; i < 4; i++) {
                app.template().syncSend(topic, "w" + i); /* it begins where the queues end when it gets them */
            }
            return got.addAll(app.template().receive(String.class, 500));
        }, "the first messages came");
        for (int i = 0; i < 20; i++) {
            app.template().syncSend(topic, "m" + i);
        }
        List<String> wanted = Kit.numbered(20).stream().sorted().collect(Collectors.toList());
        Kit.eventually(wanted, () -> {
            got.addAll(app.template().receive(String.class, 500));
            return got.stream().filter(b -> b.startsWith("m")).sorted().collect(Collectors.toList());
        }, "messages received");
    }
}
