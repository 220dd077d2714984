"""wrap_comments.py folds what is too wide and leaves the rest as it is."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wrap_comments  # noqa: E402

WORDS = "word " * 24


class Wrap(unittest.TestCase):
    def wrap(self, text):
        wrapped = wrap_comments.wrap(text)
        self.assertEqual(wrapped, wrap_comments.wrap(wrapped), "a second time changes nothing")
        return wrapped.split("\n")

    def test_narrow_comments_stay(self):
        text = "/* one */\nint x; /* two */\n/*\n * Owns:    a\n *          b\n */\n"
        self.assertEqual(wrap_comments.wrap(text), text)

    def test_a_wide_line_becomes_a_block(self):
        lines = self.wrap(f"    /* {WORDS}*/")
        self.assertEqual(lines[0], "    /*")
        self.assertEqual(lines[-1], "     */")
        self.assertTrue(all(line.startswith("     * word") and len(line) <= 100 for line in lines[1:-1]))

    def test_labels_hang_and_do_not_join(self):
        lines = self.wrap(f"/*\n * Owns:    {WORDS}\n * Thread:  loop.\n */")
        self.assertEqual(lines[2][:16], " *          word")
        self.assertEqual(lines[3], " * Thread:  loop.")

    def test_a_comment_behind_code_moves_above_it(self):
        self.assertEqual(self.wrap(f"    int x = 1; /* {'w' * 90} */"), [f"    /* {'w' * 90} */", "    int x = 1;"])
        self.assertEqual(self.wrap(f"    uint64_t\n        count; /* {'w' * 85} */"),
                         [f"        /* {'w' * 85} */", "    uint64_t", "        count;"])

    def test_examples_and_drawings_stay(self):
        drawing = f"/*\n * {'-' * 60} A ---> B {'-' * 60}\n * a | b\n */"
        self.assertEqual(wrap_comments.wrap(drawing), drawing)
        example = f"/*\n *     first();\n *     {WORDS}\n */"
        self.assertEqual(self.wrap(example)[1], " *     first();")


if __name__ == "__main__":
    unittest.main()
