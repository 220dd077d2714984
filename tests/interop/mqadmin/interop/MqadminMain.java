package interop;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/**
 * The commands of mqadmin, one case for each.
 * usage: MqadminMain list
 *        MqadminMain run NAMESRV BROKER CASE...
 */
public final class MqadminMain {
    /** Held by a case that changes something for all others. */
    private static final ReadWriteLock WORLD = new ReentrantReadWriteLock(true);

    private MqadminMain() {
    }

    public static void main(String[] args) throws Exception {
        Map<String, Case> shared = new LinkedHashMap<>();
        Map<String, Case> alone = new LinkedHashMap<>();
        Map<String, Case> cases = new LinkedHashMap<>();
        TopicCommands.register(shared);
        MessageCommands.register(shared);
        GroupCommands.register(shared);
        ToolCalls.register(shared);
        BrokerCommands.register(shared);
        BrokerCommands.registerAlone(alone);
        AccessCommands.register(shared);
        shared.forEach((name, one) -> cases.put(name, kit -> locked(one, kit, false)));
        alone.forEach((name, one) -> cases.put(name, kit -> locked(one, kit, true)));
        Mqadmin.install();
        Runner.main(cases, args);
    }

    private static void locked(Case one, Kit kit, boolean isAlone) throws Exception {
        java.util.concurrent.locks.Lock lock = isAlone ? WORLD.writeLock() : WORLD.readLock();
        lock.lock();
        try {
            one.run(kit);
        } finally {
            lock.unlock();
        }
    }
}
