package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs cases against a server and prints one line for each.
 * usage: Main client list
 *        Main client run NAMESRV BROKER CASE...
 *        Main silent-producer NAMESRV GROUP TOPIC    (the process that Transactions kills)
 */
public final class Main {
    private static final long CASE_SECONDS = 90;

    interface Case {
        void run(Kit kit) throws Exception;
    }

    private Main() {
    }

    private static Map<String, Case> cases(String set) {
        Map<String, Case> cases = new LinkedHashMap<>();
        Sending.register(cases);
        Consuming.register(cases);
        Members.register(cases);
        Transactions.register(cases);
        Lookups.register(cases);
        Delays.register(cases);
        Orderly.register(cases);
        Replies.register(cases);
        Tracing.register(cases);
        return cases;
    }

    /** The line for one case; a case that hangs is left behind and fails. */
    private static boolean runCase(ExecutorService pool, String name, Case one, String[] servers) {
        Future<?> future = pool.submit(() -> {
            try (Kit kit = new Kit(name, servers[0], servers[1])) {
                one.run(kit);
            }
            return null;
        });
        String why;
        try {
            future.get(CASE_SECONDS, TimeUnit.SECONDS);
            System.out.println("ok " + name);
            return true;
        } catch (TimeoutException e) {
            future.cancel(true);
            why = "not finished after " + CASE_SECONDS + " seconds";
        } catch (ExecutionException e) {
            why = e.getCause().toString();
            e.getCause().printStackTrace();
        } catch (InterruptedException e) {
            why = "interrupted";
        }
        System.out.println("FAIL " + name + ": " + why.replaceAll("\\s+", " "));
        return false;
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("silent-producer")) {
            Transactions.silentProducer(args[1], args[2], args[3]);
            return;
        }
        Map<String, Case> cases = cases(args[0]);
        if (args[1].equals("list")) {
            cases.keySet().forEach(System.out::println);
            return;
        }
        List<String> names = new ArrayList<>(Arrays.asList(args).subList(4, args.length));
        ExecutorService pool = Executors.newCachedThreadPool();
        boolean isGood = true;
        for (String name : names) {
            isGood &= runCase(pool, name, cases.get(name), new String[] {args[2], args[3]});
        }
        System.out.flush();
        Runtime.getRuntime().halt(isGood ? 0 : 1); /* threads of a failed case may still run */
    }
}
