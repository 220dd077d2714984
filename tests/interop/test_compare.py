"""compare.py finds each difference that DIFFERENCES.md does not have, and each that it has and is gone."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare  # noqa: E402

PAGE = """
| Case | Prints | `escrowd` | RocketMQ | Why |
| --- | --- | --- | --- | --- |
| `java-*/list`, `go/list` | `version`, `name` | `Escrow` | `V5\\|5` | a name |
| `java-5/late` | `result` | `ok` | `FAIL` | it is slow |
| `java-5/extra` | `more` | `x` | `-` | ours alone |
"""
ROWS = compare.rows_of(PAGE)


def known(name, output, *lines):
    return list(compare.known(ROWS, name, lines, output))


def both(ours, theirs):
    """The lines about two outputs with a case `one` that is ok with both."""
    return list(compare.both(ROWS, "java-5", (["ok one"], ours), (["ok one"], theirs)))


class Known(unittest.TestCase):
    def test_a_case_without_a_row_stays_as_it_is(self):
        lines = ["ok one", "FAIL two: why: it", "ok server-stops-cleanly"]
        self.assertEqual(lines, known("java-5-rocketmq", "note one fact: 3\n", *lines))

    def test_a_row_holds_with_its_own_server(self):
        self.assertEqual(["ok list"], known("java-5", "note list version: Escrow\nnote list name: Escrow\n", "ok list"))
        self.assertEqual(["differs list: name, version"],
                         known("java-4.9-rocketmq", "note list version: V5|5\nnote list name: V5|5\n", "ok list"))

    def test_a_difference_that_is_gone_fails(self):
        found = known("go-rocketmq", "note list version: Escrow\nnote list name: V5|5\n", "ok list")
        self.assertEqual(["FAIL list: version is 'Escrow', DIFFERENCES.md says 'V5|5'"], found)

    def test_the_other_server_value_fails_with_escrowd(self):
        self.assertTrue(known("go", "note list version: V5|5\nnote list name: Escrow\n", "ok list")[0].startswith("FAIL list: version is 'V5|5'"))

    def test_an_expected_failure_is_none(self):
        self.assertEqual(["differs late: result"], known("java-5-rocketmq", "", "FAIL late: too slow"))

    def test_an_expected_failure_that_is_gone_fails(self):
        self.assertTrue(known("java-5-rocketmq", "", "ok late")[0].startswith("FAIL late: result is 'ok'"))

    def test_a_failure_fails_whatever_the_notes_say(self):
        line = "FAIL list: broken"
        self.assertEqual([line], known("java-5-rocketmq", "note list version: V5|5\n", line))

    def test_something_not_printed_is_a_dash(self):
        self.assertEqual(["differs extra: more"], known("java-5-rocketmq", "", "ok extra"))
        self.assertTrue(known("java-5", "", "ok extra")[0].startswith("FAIL extra: more is '-'"))

    def test_a_row_without_a_difference_is_refused(self):
        with self.assertRaises(ValueError):
            compare.rows_of("| `c/send` | `x` | `1` | `1` | - |")


class Both(unittest.TestCase):
    def test_the_same_notes_are_no_difference(self):
        self.assertEqual([], both("note one a: 1\nnoise\nnote one b:\n", "note one b:\nnote one a: 1\n"))

    def test_another_value_is_one(self):
        self.assertEqual(["FAIL one: a is '2', with escrowd '1'"], both("note one a: 1\n", "note one a: 2\n"))

    def test_a_note_of_one_alone_is_one(self):
        self.assertEqual(["FAIL one: a is '-', with escrowd '1'"], both("note one a: 1\n", ""))
        self.assertEqual(["FAIL one: a is '1', with escrowd '-'"], both("", "note one a: 1\n"))

    def test_repeated_notes_have_all_their_values_in_order(self):
        self.assertEqual(["FAIL one: a is '2; 1', with escrowd '1; 2'"],
                         both("note one a: 1\nnote one a: 2\n", "note one a: 2\nnote one a: 1\n"))

    def test_what_a_row_is_about_is_left_to_it(self):
        found = list(compare.both(ROWS, "java-5", (["ok list"], "note list version: Escrow\nnote list n: 1\n"),
                                  (["differs list: version"], "note list version: V5|5\nnote list n: 2\n")))
        self.assertEqual(["FAIL list: n is '2', with escrowd '1'"], found)

    def test_a_case_that_failed_with_one_is_not_compared(self):
        found = compare.both(ROWS, "java-5", (["ok one"], "note one a: 1\n"), (["FAIL one: why"], ""))
        self.assertEqual([], list(found))


if __name__ == "__main__":
    unittest.main()
