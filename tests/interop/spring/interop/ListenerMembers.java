package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.spring.core.RocketMQTemplate;

/** Several instances of one service. */
final class ListenerMembers {
    private ListenerMembers() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("clustering", ListenerMembers::clustering);
        cases.put("broadcast", ListenerMembers::broadcast);
        cases.put("rebalance", ListenerMembers::rebalance);
        cases.put("rebalance-after-kill", ListenerMembers::rebalanceAfterKill);
        cases.put("orderly-takeover", ListenerMembers::orderlyTakeover);
    }

    private static void sendMany(RocketMQTemplate template, String topic, String what, int count) {
        for (int i = 0; i < count; i++) {
            template.syncSend(topic, what + i);
        }
    }

    private static List<String> only(Inbox inbox, String what) {
        return inbox.bodies().stream().filter(b -> b.startsWith(what)).distinct().sorted().collect(Collectors.toList());
    }

    /** Two instances share the queues; every message goes to one of them. */
    private static void clustering(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App first = App.listen(kit, topic, group, Listeners.Plain.class);
        App second = App.listen(kit, topic, group, Listeners.Plain.class);
        Kit.eventually(2, () -> first.queues(topic), "queues of the first");
        Kit.eventually(2, () -> second.queues(topic), "queues of the second");
        sendMany(first.template(), topic, "m", 40);
        Kit.eventually(40, () -> first.inbox().bodies().size() + second.inbox().bodies().size(), "messages");
        Set<String> all = new HashSet<>(first.inbox().bodies());
        all.addAll(second.inbox().bodies());
        Kit.equal(40, all.size(), "different messages");
        Kit.equal(20, first.inbox().bodies().size(), "messages of the first");
    }

    /** Every instance gets every message; in one process only one could be: it has no instance name of its own. */
    private static void broadcast(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App here = App.listen(kit, topic, group, Listeners.Broadcast.class);
        Child there = kit.later(new Child(SpringMain.class, "broadcast-member", kit.namesrv, group, topic));
        sendMany(here.template(), topic, "m", 10);
        there.await("started");
        sendMany(here.template(), topic, "n", 10);
        Kit.eventually(20, () -> here.inbox().bodies().size(), "messages of one");
        Kit.eventually(10, () -> (int) there.said("got").stream().filter(b -> b.startsWith("n")).count(), "messages of the other");
        Thread.sleep(200);
        Kit.equal(20, here.inbox().bodies().size(), "messages of one, shortly after");
    }

    /** An instance comes and goes; the queues follow. */
    private static void rebalance(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App first = App.listen(kit, topic, group, Listeners.Plain.class);
        Kit.eventually(4, () -> first.queues(topic), "queues of one alone");
        App second = App.listen(kit, topic, group, Listeners.Plain.class);
        Kit.eventually(Arrays.asList(2, 2), () -> Arrays.asList(first.queues(topic), second.queues(topic)), "queues of two");
        second.close();
        Kit.eventually(4, () -> first.queues(topic), "queues of the one that stays");
        sendMany(first.template(), topic, "after", 20);
        Kit.eventually(20, () -> only(first.inbox(), "after").size(), "messages");
    }

    /** Orderly queues change hands when an instance comes, and when one goes: nothing is lost, and nothing comes after what is later. */
    private static void orderlyTakeover(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App first = App.listen(kit, topic, group, Listeners.Orderly.class);
        Inbox earlier = first.inbox();
        sendMany(first.template(), topic, "m", 20);
        earlier.expect(Kit.numbered(20)); /* queues with messages in hand would be given back 20 seconds later */
        App second = App.listen(kit, topic, group, Listeners.Orderly.class);
        Kit.eventually(Arrays.asList(2, 2), () -> Arrays.asList(first.queues(topic), second.queues(topic)), "queues of two");
        sendMany(second.template(), topic, "n", 20);
        Kit.eventually(20, () -> only(earlier, "n").size() + only(second.inbox(), "n").size(), "messages of both");
        first.close();
        Kit.eventually(4, () -> second.queues(topic), "queues of the one that stays");
        sendMany(second.template(), topic, "after", 20);
        Kit.eventually(20, () -> only(second.inbox(), "after").size(), "messages");
        Map<Integer, Long> next = new HashMap<>();
        List<MessageExt> all = new ArrayList<>(earlier.messages());
        all.addAll(second.inbox().messages());
        for (MessageExt got : all) {
            Kit.equal(next.getOrDefault(got.getQueueId(), 0L), got.getQueueOffset(), "offset in queue " + got.getQueueId());
            next.put(got.getQueueId(), got.getQueueOffset() + 1);
        }
    }

    private static void rebalanceAfterKill(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        String group = kit.unique("group");
        App survivor = App.listen(kit, topic, group, Listeners.Plain.class);
        Kit.eventually(4, () -> survivor.queues(topic), "queues of one alone");
        Child other = kit.later(new Child(SpringMain.class, "member", kit.namesrv, group, topic));
        Kit.eventually(2, () -> survivor.queues(topic), "queues of one of two");
        Kit.eventually(true, () -> {
            sendMany(survivor.template(), topic, "m", 4);
            return !other.said("got").isEmpty();
        }, "the other one consumes");
        other.kill();
        Kit.eventually(4, () -> survivor.queues(topic), "queues of the survivor");
        sendMany(survivor.template(), topic, "after", 20);
        Kit.eventually(20, () -> only(survivor.inbox(), "after").size(), "messages");
    }

    /** Says what it gets until it is killed. */
    static void member(String namesrv, String group, String topic, Class<?> listener) throws Exception {
        try (Kit kit = new Kit("member", namesrv, "")) {
            Inbox inbox = App.listen(kit, topic, group, listener).inbox();
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
