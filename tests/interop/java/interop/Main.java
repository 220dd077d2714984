package interop;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The cases of rocketmq-client.
 * usage: Main list
 *        Main run NAMESRV BROKER CASE...
 *        Main silent-producer NAMESRV GROUP TOPIC    (the process that Transactions kills)
 *        Main member NAMESRV GROUP TOPIC             (the process that Members kills)
 */
public final class Main {
    private Main() {
    }

    private static Map<String, Case> cases() throws ReflectiveOperationException {
        Map<String, Case> cases = new LinkedHashMap<>();
        Answers.register(cases);
        Sending.register(cases);
        Consuming.register(cases);
        Members.register(cases);
        Popping.register(cases);
        if (Kit.isVersion5()) { /* from ../five */
            Class.forName("interop.PoppingInOrder").getDeclaredMethod("register", Map.class).invoke(null, cases);
        }
        Transactions.register(cases);
        Lookups.register(cases);
        Delays.register(cases);
        Orderly.register(cases);
        Replies.register(cases);
        Tracing.register(cases);
        Access.register(cases);
        return cases;
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "silent-producer":
                Transactions.silentProducer(args[1], args[2], args[3]);
                break;
            case "member":
                Members.member(args[1], args[2], args[3]);
                break;
            default:
                Runner.main(cases(), args);
        }
    }
}
