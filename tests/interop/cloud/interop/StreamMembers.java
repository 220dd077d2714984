package interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;

/** Several instances of one service. */
final class StreamMembers {
    private StreamMembers() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("clustering", StreamMembers::clustering);
        cases.put("broadcast", StreamMembers::broadcast);
        cases.put("rebalance", StreamMembers::rebalance);
        cases.put("rebalance-after-kill", StreamMembers::rebalanceAfterKill);
        cases.put("orderly-takeover", StreamMembers::orderlyTakeover);
    }

    /** One message to each queue of a topic. */
    private static void sendRound(DefaultMQProducer producer, String topic, String body) throws Exception {
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            producer.send(new Message(topic, Kit.bytes(StreamApp.json(body))), queue);
        }
    }

    /** How many queues' messages of a round an instance got. */
    private static int share(List<String> bodies, String round) {
        return (int) bodies.stream().filter(round::equals).count();
    }

    interface Bodies {
        List<String> get();
    }

    /** Sends rounds until an instance gets so many of one: then the queues are shared like this. */
    private static void untilShareIs(int queues, Kit kit, DefaultMQProducer producer, String topic, Bodies bodies, String what)
        throws Exception {
        Kit.eventually(queues, () -> {
            String round = kit.unique("round");
            sendRound(producer, topic, round);
            Thread.sleep(300);
            return share(bodies.get(), round);
        }, what);
    }

    private static StreamApp member(Kit kit, String topic, String group) {
        return new StreamApp(kit).sendTo(topic).consume(topic, group);
    }

    /** Two instances share the queues; every message goes to one of them. */
    private static void clustering(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        String group = kit.unique("group");
        StreamApp first = member(kit, topic, group).start();
        StreamApp second = member(kit, topic, group).start();
        untilShareIs(2, kit, producer, topic, first.inbox()::bodies, "queues of the first");
        untilShareIs(2, kit, producer, topic, second.inbox()::bodies, "queues of the second");
        sendRound(producer, topic, "a");
        sendRound(producer, topic, "b");
        for (String round : new String[] {"a", "b"}) {
            Kit.eventually(2, () -> share(first.inbox().bodies(), round), "messages of the first");
            Kit.eventually(2, () -> share(second.inbox().bodies(), round), "messages of the second");
        }
    }

    /** Every instance gets every message. */
    private static void broadcast(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        StreamApp first = member(kit, topic, group).input("message-model", "BROADCASTING").start();
        StreamApp second = member(kit, topic, group).input("message-model", "BROADCASTING").start();
        first.sendMany("m", 20);
        first.inbox().expect(Kit.numbered(20));
        second.inbox().expect(Kit.numbered(20));
    }

    /** An instance comes and goes; the queues follow. */
    private static void rebalance(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        String group = kit.unique("group");
        StreamApp first = member(kit, topic, group).start();
        untilShareIs(4, kit, producer, topic, first.inbox()::bodies, "queues of one alone");
        StreamApp second = member(kit, topic, group).start();
        untilShareIs(2, kit, producer, topic, second.inbox()::bodies, "queues of the second");
        second.close();
        untilShareIs(4, kit, producer, topic, first.inbox()::bodies, "queues of the one that stays");
        afterwardsAllCome(first, 20);
    }

    private static void rebalanceAfterKill(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        String group = kit.unique("group");
        StreamApp survivor = member(kit, topic, group).start();
        Child other = kit.later(new Child(CloudMain.class, "member", kit.namesrv, group, topic));
        other.await("started");
        untilShareIs(2, kit, producer, topic, () -> other.said("got"), "queues of the other one");
        other.kill();
        untilShareIs(4, kit, producer, topic, survivor.inbox()::bodies, "queues of the survivor");
        afterwardsAllCome(survivor, 20);
    }

    /** Orderly queues change hands when an instance comes, and when one goes: nothing is lost, and nothing comes after what is later. */
    private static void orderlyTakeover(Kit kit) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 4);
        String group = kit.unique("group");
        StreamApp first = member(kit, topic, group).input("push.orderly", "true").start();
        for (int i = 0; i < 5; i++) {
            sendRound(producer, topic, "" + i);
        }
        first.inbox().await(20); /* queues with messages in hand would be given back 20 seconds later */
        StreamApp second = member(kit, topic, group).input("push.orderly", "true").start();
        int[] round = {5};
        Kit.eventually(true, () -> {
            sendRound(producer, topic, "" + round[0]++);
            return !second.inbox().messages().isEmpty();
        }, "the second gets queues");
        int both = round[0];
        Kit.eventually(4 * both, () -> first.inbox().messages().size() + second.inbox().messages().size(), "messages of both");
        first.close();
        for (int i = 0; i < 5; i++) {
            sendRound(producer, topic, "" + round[0]++);
        }
        Kit.eventually(4 * round[0], () -> first.inbox().messages().size() + second.inbox().messages().size(), "messages");
        Map<Integer, Integer> next = new HashMap<>();
        List<MessageExt> all = new ArrayList<>(first.inbox().messages());
        all.addAll(second.inbox().messages());
        for (MessageExt got : all) {
            int expected = next.getOrDefault(got.getQueueId(), 0);
            Kit.equal("" + expected, Kit.text(got.getBody()), "next message in queue " + got.getQueueId());
            next.put(got.getQueueId(), expected + 1);
        }
    }

    private static void afterwardsAllCome(StreamApp app, int count) throws Exception {
        app.sendMany("after", count);
        Kit.eventually(count, () -> {
            Set<String> after = new HashSet<>(app.inbox().bodies());
            after.removeIf(b -> !b.startsWith("after"));
            return after.size();
        }, "messages");
    }

    /** Says what it gets until it is killed. */
    static void member(String namesrv, String group, String topic) throws Exception {
        try (Kit kit = new Kit("member", namesrv, "")) {
            Inbox inbox = member(kit, topic, group).start().inbox();
            System.out.println("started as " + group);
            System.out.flush();
            for (int said = 0; ; said++) {
                List<MessageExt> got = inbox.await(said + 1);
                System.out.println("got " + Kit.text(got.get(said).getBody()));
                System.out.flush();
            }
        }
    }
}
