"""check_layers.py finds each planted violation and nothing in a clean tree."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_layers  # noqa: E402


def faults_of(files):
    """What check_layers says about a tree made of {path: text}."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        return [f"{path}:{number}: {fault}" for path, number, fault in check_layers.check(root)]


class Layers(unittest.TestCase):
    def assert_fault(self, path, line, words):
        faults = faults_of({path: f"\n{line}\n"})
        self.assertEqual(len(faults), 1, f"{path}: {line}: {faults}")
        self.assertIn(f"{path}:2: ", faults[0])
        self.assertIn(words, faults[0])

    def assert_clean(self, path, line):
        self.assertEqual(faults_of({path: f"{line}\n"}), [])

    def test_what_the_layers_allow_is_not_reported(self):
        self.assert_clean("core/store/segment.c", '#include "core/io/disk.h"')
        self.assert_clean("txn/half.c", '#include "core/store/commitlog.h"')
        self.assert_clean("src/broker/session.c", '#include "txn/half.h"')
        self.assert_clean("src/relay/relay.c", '#include "outbox/pg/source.h"')
        self.assert_clean("src/tools/copy/ask.c", '#include "src/tools/out.h"')
        self.assert_clean("core/base/err.h", '#include "escrow/errors.h"')
        self.assert_clean("core/io_uv/loop.c", "#include <uv.h>")
        self.assert_clean("tests/unit/txn/test_half.c", "#include <check.h>")
        self.assert_clean("examples/order_service.c", "#include <escrow/escrow.h>")

    def test_a_lower_layer_may_not_see_a_higher_one(self):
        self.assert_fault("core/store/segment.c", '#include "txn/half.h"', "core/store must not see txn")
        self.assert_fault("core/base/buf.c", '#include "core/io/disk.h"', "core/base must not see core/io")
        self.assert_fault("txn/half.c", '#include "core/io_uv/loop.h"', "txn must not see core/io_uv")
        self.assert_fault("outbox/relay.c", '#include "outbox/pg/source.h"', "outbox must not see outbox/pg")
        self.assert_fault("src/client/producer.c", '#include "src/broker/topics.h"', "src/client must not see src/broker")

    def test_a_folder_inside_a_layer_has_a_rule_of_its_own(self):
        self.assert_fault("src/tools/copy/ask.c", '#include "core/store/segment.h"', "src/tools/copy must not see core/store")
        self.assert_fault("src/tools/cli.c", '#include "src/tools/copy/copy.h"', "src/tools must not see src/tools/copy")

    def test_examples_see_only_the_public_headers(self):
        self.assert_fault("examples/order_service.c", '#include "core/base/buf.h"', "examples must not see core/base")

    def test_a_third_party_header_has_one_owner(self):
        self.assert_fault("txn/half.c", "#include <uv.h>", "<uv.h> belongs to")
        self.assert_fault("src/broker/session.c", "#include <msgpack.h>", "<msgpack.h> belongs to")
        self.assert_fault("core/store/segment.c", "#include <pthread.h>", "<pthread.h> belongs to")
        self.assert_fault("src/tools/escrow.c", "#include <openssl/hmac.h>", "<openssl/hmac.h> belongs to")

    def test_an_unknown_library_needs_an_owner(self):
        self.assert_fault("src/broker/session.c", "#include <lz4.h>", "has no owner")

    def test_includes_name_the_path_from_the_root(self):
        self.assert_fault("core/store/segment.c", '#include "segment.h"', "by path from the repository root")
        self.assert_fault("core/store/segment.c", '#include "../base/buf.h"', "by path from the repository root")

    def test_private_headers_stay_in_their_folder(self):
        self.assert_fault("src/broker/session.c", '#include "core/store/log_private.h"', "private header")
        self.assert_clean("core/store/segment.c", '#include "core/store/log_private.h"')
        self.assert_clean("tests/unit/core/store/test_segment.c", '#include "core/store/log_private.h"')
        self.assert_fault("tests/crash/explore.c", '#include "core/store/log_private.h"', "private header")

    def test_a_main_wires_everything_together(self):
        self.assert_clean("src/relay/main.c", '#include "txn/half.h"')
        self.assert_fault("src/relay/main.c", "#include <msgpack.h>", "belongs to")

    def test_an_include_in_a_comment_is_none(self):
        self.assert_clean("core/base/buf.c", '/*\n#include "txn/half.h"\n*/')


if __name__ == "__main__":
    unittest.main()
