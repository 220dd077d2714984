package interop;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/** Queues that the broker assigns, pulled or popped: the 5.x client with clientRebalance switched off. */
final class Popping {
    private Popping() {
    }

    static void register(Map<String, Case> cases) {
        if (Kit.isVersion5()) {
            cases.put("broker-assigns-queues", Popping::brokerAssignsQueues);
            cases.put("pop-shared-queue", Popping::sharedQueue);
            cases.put("pop-tag-filter", Popping::tagFilter);
            cases.put("pop-retry", Popping::retry);
            cases.put("pop-and-back", Popping::popAndBack);
        }
    }

    private static String topic(Kit kit, DefaultMQProducer producer, int queues) throws Exception {
        String topic = kit.createTopic(producer, queues);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        return topic;
    }

    /** mqadmin's setConsumeMode, by the client's own call. */
    private static void setMode(Kit kit, DefaultMQProducer producer, String topic, String group, String mode) throws Exception {
        Object api = producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl();
        for (Method method : api.getClass().getMethods()) {
            if (method.getName().equals("setMessageRequestMode")) {
                method.invoke(api, kit.broker, topic, group, enumOf(method.getParameterTypes()[3], mode), 0, 5000L);
                return;
            }
        }
        throw new NoSuchMethodException("setMessageRequestMode");
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Object enumOf(Class type, String name) {
        return Enum.valueOf(type, name);
    }

    private static DefaultMQPushConsumer start(Kit kit, String group, String topic, String expression,
        MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, expression);
        Kit.call(consumer, "setClientRebalance", false);
        consumer.registerMessageListener(listener);
        consumer.start();
        return consumer;
    }

    /** How many queues of the topic it pops; -1 is one of them. */
    private static int popped(DefaultMQPushConsumer consumer, String topic) throws Exception {
        Object rebalance = consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl();
        Map<?, ?> table = (Map<?, ?>) rebalance.getClass().getMethod("getPopProcessQueueTable").invoke(rebalance);
        return (int) table.keySet().stream().filter(q -> q.toString().contains("topic=" + topic + ",")).count();
    }

    /** Two members, four queues: the broker gives two to each, and they pull. */
    private static void brokerAssignsQueues(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer, 4);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer first = start(kit, group, topic, "*", inbox);
        DefaultMQPushConsumer second = start(kit, group, topic, "*", inbox);
        Kit.eventually(2, () -> Members.queuesOf(first, topic), "queues of the first");
        Kit.eventually(2, () -> Members.queuesOf(second, topic), "queues of the second");
        Kit.sendMany(producer, topic, 20);
        inbox.expect(Kit.numbered(20));
        Kit.equal(0, popped(first, topic) + popped(second, topic), "queues that are popped");
    }

    /** One queue for two members: each message goes to one of them, and both get some. */
    private static void sharedQueue(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer, 1);
        String group = kit.unique("group");
        Inbox one = new Inbox();
        Inbox two = new Inbox();
        setMode(kit, producer, topic, group, "POP");
        DefaultMQPushConsumer first = start(kit, group, topic, "*", one);
        DefaultMQPushConsumer second = start(kit, group, topic, "*", two);
        Kit.eventually(1, () -> popped(first, topic), "queues of the first");
        Kit.eventually(1, () -> popped(second, topic), "queues of the second");
        int sent = 0;
        long deadline = System.currentTimeMillis() + Kit.PATIENCE_MS;
        while ((one.bodies().isEmpty() || two.bodies().isEmpty()) && System.currentTimeMillis() < deadline) {
            Kit.send(producer, topic, "", "m" + sent++);
            int all = sent;
            Kit.eventually(all, () -> one.bodies().size() + two.bodies().size(), "messages of both");
        }
        Kit.check(!one.bodies().isEmpty() && !two.bodies().isEmpty(), "one member got everything");
        Thread.sleep(200);
        List<String> all = new ArrayList<>(one.bodies());
        all.addAll(two.bodies());
        Collections.sort(all);
        List<String> expected = new ArrayList<>(Kit.numbered(sent));
        Collections.sort(expected);
        Kit.equal(expected, all, "messages");
    }

    private static void tagFilter(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer, 2);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        setMode(kit, producer, topic, group, "POP");
        for (int i = 0; i < 20; i++) {
            Kit.send(producer, topic, i % 2 == 0 ? "TagA" : "TagB", "m" + i);
        }
        start(kit, group, topic, "TagB", inbox);
        List<String> expected = new ArrayList<>();
        for (int i = 1; i < 20; i += 2) {
            expected.add("m" + i);
        }
        inbox.expect(expected);
    }

    /** A message that could not be handled comes again ten seconds later, with its retries counted; the others do not wait. */
    private static void retry(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer, 1);
        String group = kit.unique("group");
        Inbox good = new Inbox();
        Inbox bad = new Inbox();
        setMode(kit, producer, topic, group, "POP");
        DefaultMQPushConsumer consumer = start(kit, group, topic, "*", (messages, context) -> {
            for (MessageExt message : messages) {
                if (Kit.text(message.getBody()).equals("m0") && message.getReconsumeTimes() == 0) {
                    bad.add(message);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                good.add(message);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        Kit.eventually(1, () -> popped(consumer, topic), "queues that are popped");
        long start = System.currentTimeMillis();
        Kit.sendMany(producer, topic, 5);
        good.expect(Kit.numbered(5));
        MessageExt last = good.messages().get(4);
        kit.note("first attempt", bad.messages().get(0));
        kit.note("second attempt", last);
        Kit.equal("m0", Kit.text(last.getBody()), "the message that comes last");
        Kit.equal(1, last.getReconsumeTimes(), "its retries");
        Kit.equal(topic, last.getTopic(), "its topic");
        Kit.equal(1, bad.messages().size(), "times it was refused");
        Kit.check(System.currentTimeMillis() - start >= 9_000, "it came again too early");
    }

    /** A group is switched to popping and back while it consumes: nothing is left out. */
    private static void popAndBack(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(kit, producer, 2);
        String group = kit.unique("group");
        Set<String> seen = Collections.synchronizedSet(new HashSet<>());
        DefaultMQPushConsumer consumer = start(kit, group, topic, "*", (messages, context) -> {
            messages.forEach(m -> seen.add(Kit.text(m.getBody())));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        int sent = 0;
        for (String mode : new String[] {"PULL", "POP", "PULL"}) {
            boolean isPopping = mode.equals("POP");
            setMode(kit, producer, topic, group, mode);
            rebalance(consumer);
            Kit.eventually(isPopping ? 1 : 0, () -> popped(consumer, topic), "queues that are popped, mode " + mode);
            Kit.eventually(isPopping ? 0 : 2, () -> Members.queuesOf(consumer, topic), "queues that are pulled, mode " + mode);
            for (int i = 0; i < 10; i++) {
                Kit.send(producer, topic, "", "m" + sent++);
            }
            Collection<String> expected = new HashSet<>(Kit.numbered(sent));
            Kit.eventually(expected, () -> new HashSet<>(seen), "messages so far, mode " + mode);
        }
    }

    /** The client asks the broker every 20 seconds; now, please. */
    private static void rebalance(DefaultMQPushConsumer consumer) {
        consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().rebalanceImmediately();
    }
}
