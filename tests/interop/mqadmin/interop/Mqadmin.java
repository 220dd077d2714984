package interop;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs commands of mqadmin in this process, one at a time (their clients are told apart by the millisecond), and keeps what
 * they print: what a thread prints goes to the command that started it.
 */
final class Mqadmin {
    private static final PrintStream OUT = System.out;
    private static final PrintStream ERR = System.err;
    private static final InheritableThreadLocal<ByteArrayOutputStream> CAPTURED = new InheritableThreadLocal<>();
    private static final Object ONE_AT_A_TIME = new Object();

    private Mqadmin() {
    }

    static void install() {
        System.setOut(new PrintStream(new Divided(OUT), true));
        System.setErr(new PrintStream(new Divided(ERR), true));
    }

    /** To the command of this thread, if it has one. */
    private static final class Divided extends OutputStream {
        private final PrintStream otherwise;

        Divided(PrintStream otherwise) {
            this.otherwise = otherwise;
        }

        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int from, int count) {
            ByteArrayOutputStream captured = CAPTURED.get();
            if (captured != null) {
                captured.write(bytes, from, count);
            } else {
                otherwise.write(bytes, from, count);
                otherwise.flush();
            }
        }
    }

    private static Thread start(Kit kit, ByteArrayOutputStream output, String... args) {
        List<String> all = new ArrayList<>(Arrays.asList(args));
        all.addAll(Arrays.asList("-n", kit.namesrv));
        Thread thread = new Thread(() -> {
            CAPTURED.set(output);
            MQAdminStartup.main0(all.toArray(new String[0]), null);
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static String text(ByteArrayOutputStream output) {
        return new String(output.toByteArray(), StandardCharsets.UTF_8);
    }

    /** What the command prints, whatever it says. */
    static String tryRun(Kit kit, String... args) throws Exception {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        Path keys = Paths.get(System.getProperty("rocketmq.home.dir"), "conf", "tools.yml"); /* read by every command */
        synchronized (ONE_AT_A_TIME) {
            if (kit.isSigned()) {
                Files.write(keys, Arrays.asList("accessKey: " + kit.accessKey(), "secretKey: " + kit.secretKey()));
            }
            start(kit, output, args).join();
            Files.deleteIfExists(keys);
        }
        return text(output);
    }

    /** What the command prints; it must not complain. */
    static String run(Kit kit, String... args) throws Exception {
        String output = tryRun(kit, args);
        Kit.check(!output.contains("Exception") && !output.contains("failed") && !output.contains("usage: mqadmin"),
            String.join(" ", args) + ": " + output);
        return output;
    }

    /** A command that goes on until it is told to stop: until its output has a line like this. */
    static String runUntil(Kit kit, String line, String... args) throws Exception {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        synchronized (ONE_AT_A_TIME) {
            Thread thread = start(kit, output, args);
            Kit.eventually(true, () -> has(text(output), line), String.join(" ", args) + " prints " + line);
            thread.interrupt();
            thread.join();
        }
        return text(output);
    }

    /** Is there a line that the expression fits, apart from blanks around it? */
    static boolean has(String output, String line) {
        Pattern pattern = Pattern.compile("\\s*" + line + "\\s*");
        return Arrays.stream(output.split("\\R")).anyMatch(l -> pattern.matcher(l).matches());
    }

    /** The group of the expression, in the first line that it fits. */
    static String part(String output, String line) {
        Pattern pattern = Pattern.compile("\\s*" + line + "\\s*");
        return Arrays.stream(output.split("\\R")).map(pattern::matcher).filter(Matcher::matches).map(m -> m.group(1)).findFirst()
            .orElseThrow(() -> new AssertionError("no line like '" + line + "' in: " + output));
    }

    static void expect(String output, String line) {
        Kit.check(has(output, line), "no line like '" + line + "' in: " + output);
    }

    static void expectNot(String output, String line) {
        Kit.check(!has(output, line), "a line like '" + line + "' in: " + output);
    }

    /** Waits until the command prints such a line. */
    static void eventually(Kit kit, String line, String... args) throws Exception {
        Kit.eventually(true, () -> has(tryRun(kit, args), line), String.join(" ", args) + " prints " + line);
    }
}
