package interop;

import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** Several members of one group. */
final class Members {
    private Members() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("clustering", Members::clustering);
        cases.put("rebalance", Members::rebalance);
        cases.put("rebalance-after-kill", Members::rebalanceAfterKill);
    }

    /** A topic of four queues, known to the producer. */
    private static String topic(Kit kit, DefaultMQProducer producer) throws Exception {
        String topic = kit.createTopic(producer, 4);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        return topic;
    }

    static int queuesOf(DefaultMQPushConsumer consumer, String topic) {
        return (int) consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(q -> q.getTopic().equals(topic)).count();
    }

    private static DefaultMQPushConsumer member(Kit kit, String group, String topic, Inbox inbox) throws Exception {
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        return consumer;
    }

    /** Two members share the queues; every message goes to one of them. */
    private static void clustering(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer);
        String group = kit.unique("group");
        Inbox one = new Inbox();
        Inbox two = new Inbox();
        DefaultMQPushConsumer first = member(kit, group, topic, one);
        DefaultMQPushConsumer second = member(kit, group, topic, two);
        Kit.eventually(2, () -> queuesOf(first, topic), "queues of the first");
        Kit.eventually(2, () -> queuesOf(second, topic), "queues of the second");
        Kit.sendMany(producer, topic, 80);
        Kit.eventually(80, () -> one.bodies().size() + two.bodies().size(), "messages");
        Kit.equal(40, one.bodies().size(), "messages of the first");
        Set<String> all = new HashSet<>(one.bodies());
        all.addAll(two.bodies());
        Kit.equal(80, all.size(), "different messages");
    }

    /** Members come and go; the queues follow. */
    private static void rebalance(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = member(kit, group, topic, inbox);
        Kit.eventually(4, () -> queuesOf(first, topic), "queues of one alone");
        DefaultMQPushConsumer second = member(kit, group, topic, inbox);
        DefaultMQPushConsumer third = member(kit, group, topic, inbox);
        Kit.eventually(2, () -> queuesOf(first, topic) + queuesOf(second, topic) - queuesOf(third, topic), "queues of three");
        Kit.eventually(4, () -> queuesOf(first, topic) + queuesOf(second, topic) + queuesOf(third, topic), "all queues");
        second.shutdown();
        first.shutdown();
        Kit.eventually(4, () -> queuesOf(third, topic), "queues of the last");
        Kit.sendMany(producer, topic, 20);
        Kit.eventually(20, () -> new HashSet<>(inbox.bodies()).size(), "messages");
    }

    /** A member that is killed says nothing; its queues go to who is left. */
    private static void rebalanceAfterKill(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer survivor = member(kit, group, topic, inbox);
        Kit.eventually(4, () -> queuesOf(survivor, topic), "queues of one alone");
        Child other = kit.later(new Child(Main.class, "member", kit.namesrv, group, topic));
        Kit.eventually(2, () -> queuesOf(survivor, topic), "queues of one of two");
        Kit.eventually(true, () -> {
            Kit.sendMany(producer, topic, 4);
            return !other.said("got").isEmpty();
        }, "the other one consumes");
        other.kill();
        Kit.eventually(4, () -> queuesOf(survivor, topic), "queues of the survivor");
        for (int i = 0; i < 20; i++) {
            Kit.send(producer, topic, "", "after" + i);
        }
        Kit.eventually(20L, () -> inbox.bodies().stream().filter(b -> b.startsWith("after")).distinct().count(), "messages");
    }

    /** Consumes until it is killed. */
    static void member(String namesrv, String group, String topic) throws Exception {
        try (Kit kit = new Kit("member", namesrv, "")) {
            member(kit, group, topic, new Inbox() {
                @Override
                synchronized void add(MessageExt message) {
                    System.out.println("got " + Kit.text(message.getBody()));
                    System.out.flush();
                }
            });
            Thread.sleep(60_000);
        }
    }
}
