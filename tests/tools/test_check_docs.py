"""check_docs.py finds each document that fell behind, and nothing when all are in step."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_docs  # noqa: E402

ERRORS = ("#define ESCROW_ERRORS(X) \\\n    X(OK, 0, NONE, \"success\") \\\n"
          "    X(ENOSPC, -9, RETRY, \"no space (left)\")\n")
OUTBOX = ("CREATE TABLE escrow.outbox ();\nCREATE OR REPLACE FUNCTION escrow.publish(t text, -- (what)\n"
          "    tag text DEFAULT NULL, OUT id bigint)\n")
BY_HAND = f"1 001_outbox {check_docs.crc32c(OUTBOX.encode()):08x}\n"
TREE = {
    "core/README.md": "| File | What |\n| --- | --- |\n| errors.h | `envelope`, `config` |\n",
    "core/include/escrow/errors.h": ERRORS,
    "core/proto/PROTOCOL.md": "| ESCROW_OK | 0 | NONE |\n| `ESCROW_ENOSPC` | -9 | RETRY | disk full |\n",
    "core/store/envelope.h": "#define STORE_TYPES(X) \\\n    X(MESSAGE, 1, true)\n#define ENVELOPE_SIZE 40u\n"
                             "#define ENVELOPE_MAGIC UINT32_C(0x45534331)\n#define QUEUE_FILE_ENTRIES 300000u\n",
    "core/store/FORMAT.md": "| 1 | MESSAGE |\n\n40 bytes, 0x45534331, 300,000 entries\n",
    "sql/README.md": "`001_outbox.sql` makes `escrow.outbox` and `escrow.publish(...)`\n" + BY_HAND,
    "sql/001_outbox.sql": OUTBOX,
    "src/broker/config.h": "#define CONFIG_OPTIONS(X) \\\n    X(dir, \"data.dir\", TEXT, \"\", \"a, (b\") \\\n"
                           "    X(host, \"listen.host\", TEXT, \"::1\", \"x\")\n",
    "src/broker/handle_send.c": "int x;\n",
    "src/broker/README.md": "`config`, handle_<request>; see [the format](../../core/store/FORMAT.md)\n",
    "src/packaging/escrowd.conf": "#data.dir =\n# Addresses.\n#listen.host = ::1\n",
    "README.md": "`go-tls`\n\n| Feature | Case | J `java-4.9` | K `java-5` | G `go` | N `node` | L 1.2.3 `c` |\n| --- | --- | --- | --- | --- | --- | --- |\n"
                 "| send | `one`, `two-b` | yes | yes | yes | `two-b`, `node/one` | `send` |\n"
                 "| pop | `pop` | n/a | yes | - | `java-5/pop` | `test_pop` |\n",
    "tests/interop/c/client.sh": "version=1.2.3\n",
    "tests/interop/DIFFERENCES.md": "| Case |\n| --- |\n| `java-*/pop`, `c/send` | `x` |\n",
    "tests/interop/run.sh": "clients=(c java-4.9 java-5 go go-tls node)\n",
    "tests/interop/README.md": "`run`, `main`, `client`\n",
    "tests/interop/c/main.c": "    {\"send\", case_send},\n",
    "tests/interop/java/A.java": "    {\n        cases.put(\"one\", A::one);\n        if (Kit.isVersion5()) {\n            cases.put(\"pop\", A::pop);\n"
                                 "        }\n        cases.put(\"two-b\", A::two);\n    }\n",
    "tests/interop/go/cases.go": "\t{\"one\", one},\n\t{\"two-b\", func(k *Kit) {}},\n",
    "tests/interop/node/main.js": "  async one(kit) {\n    two(kit);\n  },\n  'two-b': kit => f(kit),\n",
    "tests/integration/client/test_pop.c": "int x;\n",
    "tests/integration/README.md": "`test_pop`\n",
}


def faults_of(**changed):
    """What check_docs says about TREE with some files replaced ({"a/b": text}) or taken away (None)."""
    files = {**TREE, **changed}
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            if text is None:
                continue
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        return [f"{path}: {fault}" for path, fault in check_docs.check(root)]


class Docs(unittest.TestCase):
    def assert_fault(self, path, text, words):
        faults = faults_of(**{path: text})
        self.assertEqual(len(faults), 1, faults)
        self.assertIn(words, faults[0])

    def test_a_tree_in_step_has_no_faults(self):
        self.assertEqual(faults_of(), [])

    def test_an_error_without_its_row(self):
        self.assert_fault("core/proto/PROTOCOL.md", "| ESCROW_OK | 0 | NONE |\nENOSPC -9 RETRY\n", "ENOSPC, -9, RETRY")

    def test_a_row_with_another_number_or_class(self):
        page = TREE["core/proto/PROTOCOL.md"]
        self.assert_fault("core/proto/PROTOCOL.md", page.replace("-9", "-10"), "ENOSPC, -9, RETRY")
        self.assert_fault("core/proto/PROTOCOL.md", page.replace("RETRY", "FATAL"), "ENOSPC, -9, RETRY")

    def test_a_missing_document(self):
        self.assert_fault("core/proto/PROTOCOL.md", None, "core/proto/PROTOCOL.md: is missing")

    def test_a_table_that_was_renamed_is_not_skipped(self):
        self.assert_fault("core/include/escrow/errors.h", ERRORS.replace("ESCROW_ERRORS", "ALL"), "no table ESCROW_ERRORS")

    def test_a_number_of_the_disk_format(self):
        page = TREE["core/store/FORMAT.md"]
        self.assert_fault("core/store/FORMAT.md", page.replace("0x45534331", "magic"), "0x45534331 (ENVELOPE_MAGIC")
        self.assert_fault("core/store/FORMAT.md", page.replace("300,000", "many"), "300000 (QUEUE_FILE_ENTRIES")
        self.assert_fault("core/store/FORMAT.md", page.replace("| 1 |", "| 2 |"), "MESSAGE, 1")

    def test_an_sql_object_without_a_word(self):
        self.assert_fault("sql/README.md", "`001_outbox.sql` makes `escrow.outbox`\n" + BY_HAND, "escrow.publish")

    def test_a_parameter_of_another_name(self):
        page = TREE["sql/README.md"]
        for call in ("t text, tag text", "t", "t, ...", ""):
            self.assertEqual(faults_of(**{"sql/README.md": page.replace("...", call)}), [])
        for call in ("topic text", "tag text", "t text, id bigint"):
            self.assert_fault("sql/README.md", page.replace("...", call), "escrow.publish parameters that it does not have")

    def test_a_file_that_is_not_among_those_to_be_run_by_hand(self):
        self.assertEqual(check_docs.crc32c(b"123456789"), 0xE3069283)
        self.assert_fault("sql/README.md", TREE["sql/README.md"].replace(BY_HAND, ""), f"no line '{BY_HAND.strip()}'")
        self.assert_fault("sql/001_outbox.sql", OUTBOX + "-- edited\n", "no line '1 001_outbox ")

    def test_a_file_its_folder_does_not_name(self):
        self.assert_fault("src/broker/session.c", "int x;\n", "src/broker/README.md: does not name session.c")
        self.assert_fault("txn/half.c", "int x;\n", "txn/README.md: is missing; it would name half.c")

    def test_an_option_without_a_line(self):
        self.assert_fault("src/packaging/escrowd.conf", "#data.dir =\n# listen.host\n", "no line '#listen.host = ::1'")
        self.assert_fault("src/packaging/escrowd.conf", "#data.dir =\n#listen.host = ::2\n", "config.h says '::1'")

    def assert_cell(self, old, new, *words):
        """What README.md says with one text replaced by another."""
        faults = faults_of(**{"README.md": TREE["README.md"].replace(old, new)})
        self.assertEqual(len(faults), len(words), faults)
        for fault, word in zip(faults, words):
            self.assertIn(word, fault)

    def test_a_case_that_is_not_there(self):
        self.assert_cell("`one`, `two-b` | yes | yes", "`one`, `two-b`, `three` | yes | yes",
                         *(f"names {client}/three, and there is no such case" for client in ("java-4.9", "java-5", "go")))
        self.assert_cell("`node/one`", "`node/one`, `three`", "row 'send', column 'N `node`' names node/three, and")
        self.assert_cell("`java-5/pop`", "`java-6/pop`", "names java-6/pop, and there is no such case")
        self.assert_cell("`test_pop`", "`test_pops`", "names test_pops, which is not in tests/integration/client")

    def test_a_case_that_only_another_version_has(self):
        self.assert_cell("| n/a | yes |", "| yes | yes |", "names java-4.9/pop, and there is no such case")
        faults = faults_of(**{"tests/interop/java/A.java": TREE["tests/interop/java/A.java"].replace("Kit.isVersion5()", "isNew()")})
        self.assertIn("tests/interop/java/A.java: cases depend on isNew(): tell tests/tools/check_docs.py", faults[0])

    def test_a_case_that_was_renamed_or_is_new(self):
        cases = TREE["tests/interop/go/cases.go"]
        faults = faults_of(**{"tests/interop/go/cases.go": cases.replace("two-b", "two-c")})
        self.assertEqual(len(faults), 2, faults)
        self.assertIn("names go/two-b, and there is no such case", faults[0])
        self.assertIn("has go/two-c in no cell", faults[1])
        self.assert_cell("yes | `two-b`, `node/one`", "- | `two-b`, `node/one`", "has go/one in no cell", "has go/two-b in no cell")

    def test_a_client_without_a_word(self):
        self.assert_fault("tests/interop/run.sh", "clients=(c java-4.9 java-5 go go-tls node node-2)\n", "does not name the client node-2")
        self.assert_cell("`go-tls`", "TLS: `test_pop`", "does not name the client go-tls")

    def test_a_difference_of_a_case_that_is_gone(self):
        self.assert_fault("tests/interop/DIFFERENCES.md", "| `java-*/pop`, `go-tls/one`, `c/sent` | `x` |\n",
                          "has a row about c/sent, and there is no such case")

    def test_a_version_that_is_not_fetched(self):
        for version in ("1.2.4", "1.2.3.4", "11.2.3"):
            self.assert_cell("1.2.3", version, f"names version {version}, which is not fetched")

    def test_a_cell_that_says_something_else(self):
        self.assert_cell("| n/a |", "| maybe |", "says 'maybe': expected")
        self.assert_cell("| n/a |", "|", "row 'pop' has 6 cells, its table 7 columns", "names java-4.9/pop",
                         "names node/test_pop")

    def test_a_link_to_nowhere(self):
        self.assert_fault("txn/README.md", "see [states](STATES.md)\n", "links to STATES.md")


if __name__ == "__main__":
    unittest.main()
