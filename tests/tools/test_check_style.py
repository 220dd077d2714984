"""check_style.py finds each planted violation and nothing in a clean tree."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_style  # noqa: E402
import tree  # noqa: E402


def plant(root, files):
    for path, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)


def faults_of(files):
    """What check_style says about a tree made of {path: text}."""
    with tempfile.TemporaryDirectory() as root:
        plant(root, files)
        return [f"{path}:{number}: {fault}" for path, number, fault in check_style.check(root)]


def function_of(lines, name="long_one"):
    """A function with this many lines from its name to its closing brace."""
    return f"int {name}(void)\n{{\n" + "    x++;\n" * (lines - 3) + "}\n"


class Style(unittest.TestCase):
    def assert_fault(self, path, line, rule):
        faults = faults_of({path: f"\n{line}\n"})
        self.assertEqual(len(faults), 1, f"{path}: {line}: {faults}")
        self.assertTrue(faults[0].startswith(f"{path}:2: "), faults[0])
        self.assertTrue(faults[0].endswith(f"[{rule}]"), faults[0])

    def assert_clean(self, path, text):
        self.assertEqual(faults_of({path: text}), [])

    def test_banned_calls_are_found_where_they_are_banned(self):
        self.assert_fault("src/broker/x.c", "    strcpy(a, b);", "bounds")
        self.assert_fault("tests/unit/txn/x.c", "    sprintf(a, b);", "bounds")
        self.assert_fault("core/base/x.c", "    n = atoi(text);", "parse")
        self.assert_fault("core/base/x.c", "    t = gmtime(&now);", "threads")
        self.assert_fault("src/tools/x.c", "    system(command);", "shell")
        self.assert_fault("txn/x.c", "    p = malloc(10);", "memory")
        self.assert_fault("txn/x.c", "    assert(p);", "assert")
        self.assert_fault("src/client/x.c", "    now = time(NULL);", "clock")
        self.assert_fault("tests/unit/txn/x.c", "    gettimeofday(&tv, NULL);", "clock")
        self.assert_fault("tests/integration/x.c", "    usleep(100);", "sleep")
        self.assert_fault("outbox/x.c", "    f = fopen(path, mode);", "disk")
        self.assert_fault("src/broker/x.c", "    pthread_mutex_lock(&m);", "lock")
        self.assert_fault("core/store/x.c", "    n = rand();", "random")

    def test_the_places_that_wrap_a_call_may_use_it(self):
        self.assert_clean("core/base/mem.c", "    p = malloc(10);\n")
        self.assert_clean("core/io_uv/clock.c", "    clock_gettime(CLOCK_REALTIME, &ts);\n")
        self.assert_clean("core/io_uv/mailbox.c", "    pthread_mutex_lock(&m);\n")
        self.assert_clean("core/io_uv/disk.c", "    fd = open(path, flags);\n")
        self.assert_clean("examples/order_service.c", "    p = malloc(10);\n")
        self.assert_clean("tests/lib/sim.c", "    p = malloc(10);\n")     # not hit by the faults that mem.h injects

    def test_members_and_longer_names_are_other_functions(self):
        self.assert_clean("txn/x.c", "    ops->free(x); ops.open(x); mem_free(x); segment_open(x); static_assert(1);\n")

    def test_comments_and_strings_are_not_code(self):
        self.assert_clean("txn/x.c", '/* never malloc(1) here */\n    puts("malloc(1)");\n')

    def test_an_exception_names_its_reason(self):
        self.assert_clean("txn/x.c", "    free(p); /* allow(memory): the library allocated it */\n")
        self.assert_clean("txn/x.c", "    /* allow(memory): the library allocated it */\n    free(p);\n")
        self.assert_fault("txn/x.c", "    free(p); /* allow(memory): */", "memory")
        self.assert_fault("txn/x.c", "    free(p); /* allow(sleep): the library allocated it */", "memory")

    def test_debt_needs_an_issue(self):
        self.assert_fault("txn/x.c", "/* FIX" + "ME: later */", "debt")
        self.assert_fault("sql/001_x.sql", "-- TO" + "DO: later", "debt")
        self.assert_clean("txn/x.c", "/* TO" + "DO(#12): carry forward */\n")

    def test_paths_of_one_machine_are_found_everywhere(self):
        self.assert_fault("tests/run.sh", "cd /ro" + "ot/escrow", "paths")
        self.assert_fault("examples/README.md", "run /home/" + "me/escrow/run.sh", "paths")
        self.assert_clean("tests/run.sh", 'cd "$folder/work"\n')

    def test_scripts_of_tests_do_not_sleep(self):
        self.assert_fault("tests/run.sh", "sle" + "ep 1", "sleep")
        self.assert_fault("tests/integration/x.py", "    time.sle" + "ep(0.1)", "sleep")

    def test_shape_of_a_file(self):
        self.assert_fault("txn/x.c", "int " + "x" * 100 + ";", "columns")
        self.assert_fault("txn/x.c", "\tint x;", "columns")
        self.assertIn("[size]", faults_of({"txn/x.c": "int x;\n" * 1001})[0])
        self.assert_clean("txn/x.c", "/* Long because it is one table. */\n" + "int x;\n" * 1001)
        self.assertIn("[guard]", faults_of({"txn/x.h": "#ifndef X_H\n#define X_H\n#endif\n"})[0])
        self.assert_clean("core/include/escrow/x.h", "#ifndef ESCROW_X_H\n#define ESCROW_X_H\n#endif\n")

    def test_order_of_includes(self):
        header = {"txn/x.h": "#ifndef TXN_X_H\n#define TXN_X_H\n#endif\n"}
        good = '#include "txn/x.h"\n\n#include "core/base/buf.h"\n\n#include <uv.h>\n\n#include <stdio.h>\n'
        self.assertEqual(faults_of({**header, "txn/x.c": good}), [])
        late = '#include "core/base/buf.h"\n#include "txn/x.h"\n'
        self.assertIn("include \"txn/x.h\" first", faults_of({**header, "txn/x.c": late})[0])
        mixed = '#include "txn/x.h"\n#include <stdio.h>\n#include "core/base/buf.h"\n'
        self.assertIn("txn/x.c:3: order of includes", faults_of({**header, "txn/x.c": mixed})[0])


class Ratchet(unittest.TestCase):
    def ratchet(self, lines, known):
        return faults_of({"txn/x.c": function_of(lines), check_style.RATCHET: known})

    def test_seventy_lines_are_fine_and_one_more_is_not(self):
        self.assertEqual(self.ratchet(70, "# none\n"), [])
        self.assertEqual(self.ratchet(71, "# none\n"), ["txn/x.c:1: long_one has 71 lines, at most 70 [length]"])

    def test_a_known_long_function_may_stay_but_not_grow(self):
        self.assertEqual(self.ratchet(80, "txn/x.c long_one 80\n"), [])
        self.assertIn("grew from 80 to 81", self.ratchet(81, "txn/x.c long_one 80\n")[0])

    def test_a_shorter_function_must_be_recorded_as_shorter(self):
        self.assertIn("--shrink", self.ratchet(75, "txn/x.c long_one 80\n")[0])
        self.assertIn("--shrink", self.ratchet(10, "txn/x.c long_one 80\n")[0])

    def test_shrink_lowers_and_never_adds(self):
        with tempfile.TemporaryDirectory() as root:
            plant(root, {"txn/x.c": function_of(75) + function_of(90, "new_one") + function_of(99, "grown"),
                         check_style.RATCHET: "# head\ntxn/x.c long_one 80\ntxn/x.c gone 88\ntxn/x.c grown 95\n"})
            check_style.shrink(root)
            self.assertEqual(tree.read(root, check_style.RATCHET), "# head\ntxn/x.c grown 95\ntxn/x.c long_one 75\n")


class Functions(unittest.TestCase):
    def test_names_and_lines(self):
        text = ("#define LOOP(x) do { x; } while (0)\nextern \"C\" {\nstruct s { int a; };\n"
                "static const int t[] = {1, 2};\n"
                "__attribute__((noinline)) static int one(int a,\n                     void (*cb)(int))\n{\n"
                "    if (a) {\n    }\n    return '{';\n}\n\n"
                "START_TEST(two_is_a_sentence)\n{\n}\nEND_TEST\n}\n")
        self.assertEqual(tree.functions(text), [("one", 5, 11), ("two_is_a_sentence", 13, 15)])


if __name__ == "__main__":
    unittest.main()
