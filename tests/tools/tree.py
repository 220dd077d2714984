"""What the checks share: which files are ours, and C text without comments or strings."""
import os
import re

TOPS = ("core", "txn", "outbox", "src", "tests", "examples")
SKIP = re.compile(r"^(build.*|\..*|corpus|__pycache__)$")

COMMENT = r"//[^\n]*|/\*.*?\*/"
STRING = r'"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'"
TOKEN = re.compile(f"({COMMENT})|({STRING})", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", re.M)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def files(root, endings=(".c", ".h"), tops=TOPS):
    """Paths of our files with one of the endings, relative to root, sorted."""
    found = []
    for top in tops:
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(f for f in folders if not SKIP.match(f))
            found += [os.path.relpath(os.path.join(folder, n), root)
                      for n in names if n.endswith(endings)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def _spaces(text):
    return re.sub(r"[^\n]", " ", text)


def blank(text, strings=True):
    """The same text, every character in its place, with comments (and strings) turned into spaces."""
    def one(match):
        if match.group(1) or strings:
            return _spaces(match.group(0))
        return match.group(0)
    return TOKEN.sub(one, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def under(path, folders):
    """Is path one of these files, or inside one of these folders?"""
    return any(path == f or path.startswith(f + "/") for f in folders)


# A name followed by "(" that is an attribute of the function, not its name.
NOT_A_NAME = {"__attribute__", "ESCROW_PRINTF", "if", "while", "for", "switch", "return", "sizeof", "_Alignas",
              "extern", "visibility", "defined"}


def functions(text):
    """(name, first line, last line) of every function defined in a C text, from its name to its closing brace."""
    code = DIRECTIVE.sub(lambda m: _spaces(m.group(0)), blank(text))
    code = re.sub(r'\bextern\s+\{', lambda m: _spaces(m.group(0)), code)    # extern "C" {, its string is blank
    found = []
    depth = start = 0
    name = None
    for match in re.finditer(r"[{};]", code):
        kind, at = match.group(0), match.start()
        if kind == "{":
            if depth == 0:
                name = _name_of(code, start, at)
            depth += 1
        elif kind == "}":
            depth = max(0, depth - 1)
            if depth == 0:
                if name:
                    found.append((name[0], line_of(code, name[1]), line_of(code, at)))
                name, start = None, at + 1
        elif depth == 0:
            start = at + 1
    return found


def _name_of(code, start, end):
    head = code[start:end]
    if "=" in head or ")" not in head:
        return None
    for match in re.finditer(r"\b([A-Za-z_]\w*)\s*\(\s*(\w*)", head):
        if match.group(1) in ("START_TEST", "END_TEST"):
            return match.group(2), start + match.start(2)
        if match.group(1) not in NOT_A_NAME:
            return match.group(1), start + match.start(1)
    return None


# Headers of the C library and of Linux: everything else in <> is a third-party library.
SYSTEM = re.compile(
    r"^(sys|net|netinet|arpa|linux|asm|bits)/|^(aio|alloca|byteswap|cpuid|ctype|dirent|dlfcn|elf|endian|err|errno|execinfo|fcntl|"
    r"features|fenv|fnmatch|ftw|getopt|glob|grp|ifaddrs|immintrin|inttypes|langinfo|libgen|limits|link|locale|malloc|math|"
    r"mntent|netdb|nmmintrin|paths|poll|pthread|pwd|regex|sched|search|semaphore|setjmp|signal|spawn|stdalign|stdarg|"
    r"stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|sysexits|syslog|termios|threads|time|"
    r"uchar|ucontext|unistd|utime|wchar|wctype|x86intrin|wmmintrin|arm_acle)\.h$")
