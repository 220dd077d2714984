package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs cases and prints one line for each; every client written in Java uses it. */
final class Runner {
    private static final long CASE_SECONDS = 180;
    private static final int AT_A_TIME = 4; /* most cases wait most of the time */

    private Runner() {
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

    /** Runs cases again with kits of another server, all at once: they wait most of the time. */
    static void again(Map<String, Case> cases, Callable<Kit> kit, String... names) throws Exception {
        ExecutorService pool = Executors.newCachedThreadPool();
        List<Future<?>> results = new ArrayList<>();
        for (String name : names) {
            Kit own = kit.call().quietly();
            results.add(pool.submit(() -> {
                try {
                    cases.get(name).run(own);
                } catch (Throwable e) {
                    throw new AssertionError(name + ": " + e, e);
                }
                return null;
            }));
        }
        pool.shutdown();
        for (Future<?> result : results) {
            result.get();
        }
    }

    /** args: list | run NAMESRV BROKER CASE... Does not return after a run. */
    static void main(Map<String, Case> cases, String... args) throws Exception {
        if (args[0].equals("list")) {
            cases.keySet().forEach(System.out::println);
            return;
        }
        List<String> names = new ArrayList<>(Arrays.asList(args).subList(3, args.length));
        ExecutorService pool = Executors.newCachedThreadPool();
        ExecutorService lanes = Executors.newFixedThreadPool(AT_A_TIME);
        List<Future<Boolean>> results = new ArrayList<>();
        for (String name : names) {
            results.add(lanes.submit(() -> runCase(pool, name, cases.get(name), new String[] {args[1], args[2]})));
        }
        boolean isGood = true;
        for (Future<Boolean> result : results) {
            isGood &= result.get();
        }
        System.out.flush();
        Runtime.getRuntime().halt(isGood ? 0 : 1); /* threads of a failed case may still run */
    }
}
