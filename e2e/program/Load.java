import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Many threads, with the garbage collector running. Each kind of thread tells
 * its steps on standard output (step.Step); what is not as it should be is
 * written as "error: ..." and ends the program. A client adds to a sum over TCP:
 * "add 5" and "sum" are answered with the sum.
 */
public class Load {
    static final FileOutputStream OUT = new FileOutputStream(java.io.FileDescriptor.out);
    static final AtomicLong SUM = new AtomicLong();
    static final int WORKERS = 24;

    static void say(String line) {
        try {
            OUT.write((line + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            Runtime.getRuntime().halt(71);
        }
    }

    static void fail(String why) {
        say("error: " + why.replace('\n', ' '));
        Runtime.getRuntime().halt(70);
    }

    /** Steps of one thread. */
    static class Steps {
        final String who;
        int n;

        Steps(String who) {
            this.who = who;
        }

        void told() {
            ProcessHandle self = ProcessHandle.current();
            long parent = self.parent().map(ProcessHandle::pid).orElse(0L);
            java.time.Instant now = java.time.Instant.now();
            say(String.format("{\"who\":\"%s\",\"n\":%d,\"mono\":%d,\"real\":%d,\"ids\":\"pid %d ppid %d\",\"count\":%d}",
                    who, ++n, System.nanoTime(), now.getEpochSecond() * 1_000_000_000L + now.getNano(),
                    self.pid(), parent, SUM.get()));
        }
    }

    interface Body {
        void run() throws Exception;
    }

    static void thread(String name, Body body) {
        Thread t = new Thread(() -> {
            try {
                body.run();
                fail(name + " ended");
            } catch (Throwable e) {
                fail(name + ": " + e);
            }
        }, name);
        t.setDaemon(true);
        t.start();
    }

    /** A ring of workers that hand a number on, making garbage all the while. */
    static void ring() {
        @SuppressWarnings("unchecked")
        BlockingQueue<Long>[] qs = new BlockingQueue[WORKERS];
        for (int i = 0; i < WORKERS; i++) {
            qs[i] = new ArrayBlockingQueue<>(1);
        }
        for (int w = 0; w < WORKERS; w++) {
            final int me = w;
            thread("worker" + w, () -> {
                Steps steps = new Steps("worker" + me);
                Map<Integer, String> live = new ConcurrentHashMap<>();
                long last = me - WORKERS;
                for (int round = 0; ; round++) {
                    Long got = qs[me].poll(30, TimeUnit.SECONDS);
                    if (got == null || got != last + WORKERS) {
                        fail("worker" + me + ": got " + got + " after " + last);
                    }
                    last = got;
                    for (int i = 0; i < 300; i++) {
                        String s = "round " + round + " item " + i;
                        if (i < 100) {
                            live.put(i, s);
                        }
                    }
                    if (!live.get(42).equals("round " + round + " item 42")) {
                        fail("worker" + me + ": heap: " + live.get(42));
                    }
                    if (round % 20 == 0 && me % 8 == 0) {
                        steps.told();
                    }
                    qs[(me + 1) % WORKERS].put(got + 1);
                    if (me == 0) {
                        Thread.sleep(1);
                    }
                }
            });
        }
        qs[0].add(0L);
    }

    /** Blocks of memory that come and go, and some that must stay. */
    static void heap() throws Exception {
        Steps steps = new Steps("heap");
        byte[][] keep = new byte[64][];
        for (int round = 0; ; round++) {
            int i = round % keep.length;
            if (keep[i] != null) {
                for (int k = 0; k < keep[i].length; k += 4096) {
                    if (keep[i][k] != (byte) (round - keep.length + k / 4096)) {
                        fail("heap: block of round " + (round - keep.length) + " changed at " + k);
                    }
                }
            }
            byte[] block = new byte[256 * 1024];
            for (int k = 0; k < block.length; k += 4096) {
                block[k] = (byte) (round + k / 4096);
            }
            keep[i] = block;
            if (round % 100 == 0) {
                System.gc();
            }
            if (round % 10 == 0) {
                steps.told();
            }
            Thread.sleep(5);
        }
    }

    static void serve(int port) throws Exception {
        try (ServerSocket server = new ServerSocket(port, 16, InetAddress.getLoopbackAddress())) {
            while (true) {
                try (Socket s = server.accept()) {
                    BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream()));
                    String line = in.readLine();
                    if (line != null && line.startsWith("add ")) {
                        SUM.addAndGet(Long.parseLong(line.substring(4)));
                    }
                    s.getOutputStream().write((SUM.get() + "\n").getBytes(StandardCharsets.UTF_8));
                }
            }
        }
    }

    public static void main(String[] args) throws Exception {
        ring();
        thread("heap", Load::heap);
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
        Steps ticks = new Steps("timer");
        timer.scheduleAtFixedRate(ticks::told, 50, 50, TimeUnit.MILLISECONDS);
        thread("server", () -> serve(Integer.parseInt(args[0])));
        Thread.sleep(Long.MAX_VALUE);
    }
}
