package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Every way to consume, for one member of a group. */
final class Consuming {
    private Consuming() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("tag-filter", Consuming::tagFilter);
        cases.put("sql-filter", Consuming::sqlFilter);
        cases.put("retry", Consuming::retry);
        cases.put("dead-letter", Consuming::deadLetter);
        cases.put("broadcast", Consuming::broadcast);
        cases.put("long-polling", Consuming::longPolling);
        cases.put("offsets-are-kept", Consuming::offsetsAreKept);
        cases.put("from-last-offset", Consuming::fromLastOffset);
        cases.put("reset-offset", Consuming::resetOffset);
        cases.put("lite-pull-subscribe", Consuming::litePullSubscribe);
        cases.put("lite-pull-assign", Consuming::litePullAssign);
        cases.put("pull", Consuming::pull);
    }

    private static void tagFilter(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        for (int i = 0; i < 40; i++) {
            Kit.send(producer, topic, "Tag" + (char) ('A' + i % 4), "" + (char) ('A' + i % 4) + i);
        }
        Inbox some = kit.collect(kit.unique("group"), topic, "TagA || TagC");
        some.await(20);
        Thread.sleep(200);
        Kit.equal(20, some.bodies().size(), "number of messages");
        Kit.check(some.bodies().stream().allMatch(b -> b.matches("[AC].*")), "others came: " + some.bodies());
    }

    private static void sqlFilter(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        for (int i = 0; i < 20; i++) {
            Message message = new Message(topic, "TagA", Kit.bytes("m" + i));
            message.putUserProperty("price", "" + i);
            message.putUserProperty("colour", i % 2 == 0 ? "red" : "blue");
            producer.send(message);
        }
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), null, null);
        consumer.subscribe(topic, MessageSelector.bySql("price BETWEEN 4 AND 9 AND colour = 'red' AND TAGS IS NOT NULL"));
        Inbox inbox = new Inbox();
        consumer.registerMessageListener(inbox);
        consumer.start();
        inbox.expect(Arrays.asList("m4", "m6", "m8"));
        DefaultMQPushConsumer wrong = kit.consumer(kit.unique("group"), null, null);
        wrong.subscribe(topic, MessageSelector.bySql("price >"));
        wrong.registerMessageListener(inbox);
        try {
            wrong.start();
            throw new AssertionError("a wrong expression was taken");
        } catch (MQClientException e) {
            kit.note("wrong expression", e);
            Kit.equal(23, e.getResponseCode(), "SUBSCRIPTION_PARSE_FAILED");
        }
    }

    /** A message that was not consumed comes again, as itself, through the retry topic. */
    private static void retry(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "TagA", "again");
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), topic, "TagA");
        Inbox inbox = new Inbox();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            inbox.add(messages.get(0));
            context.setDelayLevelWhenNextConsume(1);
            return messages.get(0).getReconsumeTimes() < 2 ? ConsumeConcurrentlyStatus.RECONSUME_LATER
                : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        List<MessageExt> got = inbox.await(3);
        for (int i = 0; i < 3; i++) {
            Kit.equal("again", Kit.text(got.get(i).getBody()), "body");
            Kit.equal(topic, got.get(i).getTopic(), "topic");
            Kit.equal("TagA", got.get(i).getTags(), "tags");
            Kit.equal(i, got.get(i).getReconsumeTimes(), "reconsume times");
            Kit.equal(got.get(0).getMsgId(), got.get(i).getMsgId(), "message id");
            Kit.equal(got.get(0).getBornTimestamp(), got.get(i).getBornTimestamp(), "born");
        }
        for (int i = 0; i < 3; i++) {
            kit.note("attempt " + i, got.get(i));
        }
        Kit.equal(got.get(0).getProperty("ORIGIN_MESSAGE_ID"), null, "ORIGIN_MESSAGE_ID of the first");
        Kit.equal(got.get(1).getProperty("ORIGIN_MESSAGE_ID"), got.get(2).getProperty("ORIGIN_MESSAGE_ID"), "ORIGIN_MESSAGE_ID");
        Kit.check(got.get(1).getProperty("ORIGIN_MESSAGE_ID") != null, "there is an ORIGIN_MESSAGE_ID");
    }

    private static void deadLetter(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        String id = Kit.send(producer, topic, "TagA", "dead").getMsgId();
        String group = kit.unique("group");
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, "*");
        consumer.setMaxReconsumeTimes(1);
        Inbox inbox = new Inbox();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            inbox.add(messages.get(0));
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        inbox.await(2);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues("%DLQ%" + group)); /* it comes into being with a message */
        MessageExt dead = kit.collect(kit.unique("group"), "%DLQ%" + group, "*").awaitOne();
        kit.note("dead", dead);
        Kit.equal("dead", Kit.text(dead.getBody()), "body");
        Kit.equal(id, dead.getMsgId(), "message id");
        Kit.equal(topic, dead.getProperty("RETRY_TOPIC"), "RETRY_TOPIC");
        Kit.equal(2, inbox.messages().size(), "attempts");
    }

    private static void broadcast(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "m0");
        String group = kit.unique("group");
        List<Inbox> inboxes = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            DefaultMQPushConsumer consumer = kit.consumer(group, topic, "*");
            Kit.setMessageModel(consumer, "BROADCASTING");
            Inbox inbox = new Inbox();
            consumer.registerMessageListener(inbox);
            consumer.start();
            inboxes.add(inbox);
        }
        for (int i = 1; i < 20; i++) {
            Kit.send(producer, topic, "", "m" + i);
        }
        for (Inbox inbox : inboxes) {
            inbox.expect(Kit.numbered(20));
        }
    }

    /** A message that comes while the consumer waits is there at once, not at the next poll. */
    /** A pull that is answered when a message comes: one that is not would be held for 15 seconds. */
    private static void longPolling(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "first");
        Inbox inbox = kit.collect(topic);
        inbox.await(1);
        for (int i = 0; i < 10; i++) {
            long sent = System.currentTimeMillis();
            Kit.send(producer, topic, "", "m" + i);
            inbox.await(i + 2);
            long took = System.currentTimeMillis() - sent;
            Kit.check(took < 10_000, "a message took " + took + " ms");
        }
    }

    /** A consumer that comes back goes on where the group was. */
    private static void offsetsAreKept(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        String group = kit.unique("group");
        Kit.sendMany(producer, topic, 10);
        DefaultMQPushConsumer first = kit.consumer(group, topic, "*");
        Inbox inbox = new Inbox();
        first.registerMessageListener(inbox);
        first.start();
        inbox.expect(Kit.numbered(10));
        first.shutdown();
        Kit.send(producer, topic, "", "later");
        kit.collect(group, topic, "*").expect(Collections.singletonList("later"));
    }

    /** A new group that wants only what is new gets it; the queue is young, so the broker may also give the rest. */
    private static void fromLastOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "old");
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), topic, "*");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
        Inbox inbox = new Inbox();
        consumer.registerMessageListener(inbox);
        consumer.start();
        Thread.sleep(1500);
        Kit.send(producer, topic, "", "new");
        Kit.eventually(true, () -> inbox.bodies().contains("new"), "the new message came");
    }

    /** The broker tells the consumer, which looks at the new offsets ten seconds later. */
    private static void resetOffset(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 2);
        String group = kit.unique("group");
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Kit.sendMany(producer, topic, 5);
        Inbox inbox = kit.collect(group, topic, "*");
        inbox.expect(Kit.numbered(5));
        Kit.equal(2, kit.resetOffsets(producer, topic, group).size(), "queues whose offset is another");
        List<String> expected = new ArrayList<>(Kit.numbered(5));
        expected.addAll(Kit.numbered(5));
        inbox.expect(expected);
        Kit.send(producer, topic, "", "later");
        expected.add("later");
        inbox.expect(expected);
    }

    private static DefaultLitePullConsumer litePull(Kit kit, String group) throws Exception {
        DefaultLitePullConsumer consumer = kit.prepare(new DefaultLitePullConsumer(group, kit.hook()));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        kit.later(consumer::shutdown);
        return consumer;
    }

    private static List<String> poll(DefaultLitePullConsumer consumer, int count) {
        return poll(consumer, count, Kit.PATIENCE_MS);
    }

    private static List<String> poll(DefaultLitePullConsumer consumer, int count, long patienceMs) {
        List<String> bodies = new ArrayList<>();
        long deadline = System.currentTimeMillis() + patienceMs;
        while (bodies.size() < count && System.currentTimeMillis() < deadline) {
            consumer.poll(500).forEach(m -> bodies.add(Kit.text(m.getBody())));
        }
        Collections.sort(bodies);
        return bodies;
    }

    private static List<String> sorted(List<String> list) {
        List<String> copy = new ArrayList<>(list);
        Collections.sort(copy);
        return copy;
    }

    /**
     * What comes after a seek. A pull that is under way takes the new place before the client throws away what it has, and
     * then that is thrown away, too: so it is done again when something is missing.
     */
    private static void seekAndPoll(DefaultLitePullConsumer consumer, Callable<Void> seek, List<String> wanted, String what)
        throws Exception {
        List<String> got = null;
        for (int i = 0; i < 5 && !wanted.equals(got); i++) {
            seek.call();
            got = poll(consumer, wanted.size(), Kit.PATIENCE_MS / 3);
        }
        Kit.equal(wanted, got, what);
    }

    private static void litePullSubscribe(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.unique("topic");
        String group = kit.unique("group");
        Kit.sendMany(producer, topic, 30);
        DefaultLitePullConsumer consumer = litePull(kit, group);
        consumer.setAutoCommit(false);
        consumer.subscribe(topic, "*");
        consumer.start();
        Kit.equal(sorted(Kit.numbered(30)), poll(consumer, 30), "messages polled");
        consumer.commitSync();
        long committed = 0;
        for (MessageQueue queue : consumer.assignment()) {
            committed += Math.max(0, consumer.committed(queue));
        }
        Kit.equal(30L, committed, "sum of the committed offsets");
        consumer.shutdown();
        Kit.send(producer, topic, "", "later");
        DefaultLitePullConsumer next = litePull(kit, group);
        next.subscribe(topic, "*");
        next.start();
        Kit.equal(Collections.singletonList("later"), poll(next, 1), "messages after the commit");
    }

    private static void litePullAssign(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Kit.sendMany(producer, topic, 10);
        Thread.sleep(50);
        long middle = System.currentTimeMillis();
        for (int i = 10; i < 20; i++) {
            Kit.send(producer, topic, "", "m" + i);
        }
        DefaultLitePullConsumer consumer = litePull(kit, kit.unique("group"));
        consumer.setAutoCommit(false);
        consumer.start();
        Collection<MessageQueue> queues = Kit.untilNoException(() -> consumer.fetchMessageQueues(topic));
        Kit.equal(1, queues.size(), "number of queues");
        MessageQueue queue = queues.iterator().next();
        consumer.assign(queues);
        seekAndPoll(consumer, () -> {
            consumer.seekToBegin(queue);
            return null;
        }, sorted(Kit.numbered(20)), "messages from the beginning");
        Kit.equal(10L, consumer.offsetForTimestamp(queue, middle), "offset of a time");
        seekAndPoll(consumer, () -> {
            consumer.seek(queue, 15);
            return null;
        }, sorted(Kit.numbered(20).subList(15, 20)), "messages from 15");
        seekAndPoll(consumer, () -> {
            consumer.seekToEnd(queue);
            Kit.send(producer, topic, "", "end");
            return null;
        }, Collections.singletonList("end"), "messages from the end");
    }

    private static PullStatus pull(Kit kit, String what, DefaultMQPullConsumer consumer, MessageQueue queue, String tag, long offset)
        throws Exception {
        PullResult result = consumer.pull(queue, tag, offset, 4);
        kit.note(what, result.getPullStatus() + " next " + result.getNextBeginOffset() + " of " + result.getMinOffset() + " to "
            + result.getMaxOffset());
        return result.getPullStatus();
    }

    /** The old pull consumer: every status it can get, and its own offsets. */
    private static void pull(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        for (int i = 0; i < 10; i++) {
            Kit.send(producer, topic, i < 5 ? "A" : "B", "m" + i);
        }
        DefaultMQPullConsumer consumer = kit.pullConsumer(kit.unique("group"));
        consumer.start();
        MessageQueue queue = consumer.fetchSubscribeMessageQueues(topic).iterator().next();
        PullResult found = consumer.pull(queue, "*", 0, 4);
        Kit.equal(PullStatus.FOUND, found.getPullStatus(), "status");
        Kit.equal(4, found.getMsgFoundList().size(), "number of messages");
        Kit.equal(4L, found.getNextBeginOffset(), "next offset");
        Kit.equal(0L, found.getMinOffset(), "minimum");
        Kit.equal(10L, found.getMaxOffset(), "maximum");
        Map<String, PullStatus> others = new HashMap<>();
        others.put("nothing new", pull(kit, "nothing new", consumer, queue, "*", 10));
        others.put("beyond the end", pull(kit, "beyond the end", consumer, queue, "*", 99));
        others.put("no such tag", pull(kit, "no such tag", consumer, queue, "C", 0));
        Kit.equal(PullStatus.NO_NEW_MSG, others.get("nothing new"), "nothing new");
        Kit.equal(PullStatus.OFFSET_ILLEGAL, others.get("beyond the end"), "beyond the end");
        Kit.equal(PullStatus.NO_MATCHED_MSG, others.get("no such tag"), "no such tag");
        Kit.equal("m5", Kit.text(consumer.pull(queue, "B", 0, 4).getMsgFoundList().get(0).getBody()), "first with B");
        consumer.updateConsumeOffset(queue, 7);
        consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue);
        Kit.eventually(7L, () -> consumer.fetchConsumeOffset(queue, true), "offset in the broker");
        Kit.equal(10L, consumer.maxOffset(queue), "maximum");
        Kit.equal(0L, consumer.minOffset(queue), "minimum");
        Kit.check(consumer.earliestMsgStoreTime(queue) > 0, "time of the first");
    }
}
