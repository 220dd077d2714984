package interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Orderly consumption: a queue is locked for its consumer. */
final class Orderly {
    private Orderly() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("ordered", Orderly::ordered);
        cases.put("orderly-suspend", Orderly::orderlySuspend);
        cases.put("orderly-takeover", Orderly::orderlyTakeover);
    }

    /** Messages of one key keep their order through queues that are locked for their consumer. */
    private static void ordered(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        for (int i = 0; i < 200; i++) {
            producer.send(new Message(topic, "", "order" + i % 10, Kit.bytes("m" + i)), new SelectMessageQueueByHash(),
                "order" + i % 10);
        }
        Map<String, List<Integer>> perKey = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), topic, "*");
        Inbox inbox = new Inbox();
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt m : messages) {
                perKey.computeIfAbsent(m.getKeys(), k -> new ArrayList<>())
                    .add(Integer.parseInt(Kit.text(m.getBody()).substring(1)));
                inbox.add(m);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        inbox.expect(Kit.numbered(200));
        for (Map.Entry<String, List<Integer>> entry : perKey.entrySet()) {
            List<Integer> sorted = new ArrayList<>(entry.getValue());
            Collections.sort(sorted);
            Kit.equal(sorted, entry.getValue(), "order of " + entry.getKey());
        }
    }

    /** An orderly consumer that suspends sees the same message again before any later one. */
    private static void orderlySuspend(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Kit.sendMany(producer, topic, 3);
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), topic, "*");
        consumer.setSuspendCurrentQueueTimeMillis(100);
        Inbox inbox = new Inbox();
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            inbox.add(messages.get(0));
            return inbox.messages().size() == 2 ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
                : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        inbox.await(4);
        Kit.equal(java.util.Arrays.asList("m0", "m1", "m1", "m2"), inbox.bodies(), "order");
    }

    /** An orderly queue changes hands without a message of it being consumed by two at a time, or out of order. */
    private static void orderlyTakeover(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        String group = kit.unique("group");
        Map<Integer, AtomicInteger> inside = new ConcurrentHashMap<>();
        Map<Integer, List<Long>> offsets = new ConcurrentHashMap<>();
        List<String> faults = Collections.synchronizedList(new ArrayList<>());
        Inbox inbox = new Inbox();
        MessageListenerOrderly listener = (messages, context) -> {
            int queue = messages.get(0).getQueueId();
            AtomicInteger count = inside.computeIfAbsent(queue, q -> new AtomicInteger());
            if (count.incrementAndGet() != 1) {
                faults.add("two at a time in queue " + queue);
            }
            for (MessageExt m : messages) {
                offsets.computeIfAbsent(queue, q -> new ArrayList<>()).add(m.getQueueOffset());
                inbox.add(m);
            }
            try {
                Thread.sleep(20);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            count.decrementAndGet();
            return ConsumeOrderlyStatus.SUCCESS;
        };
        DefaultMQPushConsumer first = kit.consumer(group, topic, "*");
        first.registerMessageListener(listener);
        first.setAwaitTerminationMillisWhenShutdown(5000); /* or it gives queues back while its listener runs */
        first.start();
        Kit.sendMany(producer, topic, 20);
        inbox.await(20);
        Thread.sleep(500); /* a queue with messages in hand would be given back 20 seconds later */
        DefaultMQPushConsumer second = kit.consumer(group, topic, "*");
        second.registerMessageListener(listener);
        second.start();
        Kit.eventually(2, () -> Members.queuesOf(second, topic), "queues of the second");
        Kit.sendMany(producer, topic, 180);
        inbox.await(100);
        first.shutdown();
        Kit.eventually(200, () -> inbox.messages().stream().map(m -> m.getQueueId() + "/" + m.getQueueOffset())
            .collect(Collectors.toSet()).size(), "different messages");
        Kit.equal(new ArrayList<>(), faults, "faults");
        for (List<Long> queue : offsets.values()) {
            List<Long> firstSeen = queue.stream().distinct().collect(Collectors.toList());
            Kit.equal(firstSeen.stream().sorted().collect(Collectors.toList()), firstSeen, "order of first deliveries");
        }
    }
}
