/*
 * Runs a fuzz target over the files of its corpus, once each: the main() of every fuzz target
 * outside a fuzz build. usage: fuzz_<name> FOLDER
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns 0, or -1 when the file cannot be read. */
static int run_file(const char *folder, const char *name)
{
    static uint8_t input[INPUT_MAX];
    char path[4096];
    size_t size;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name); /* cut: then it does not open */
    file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    size = fread(input, 1, sizeof input, file);
    (void)fclose(file);                        /* only read from */
    (void)LLVMFuzzerTestOneInput(input, size); /* always 0: a finding ends the process */
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent *entry;
    int count = 0;
    DIR *dir;

    if (argc != 2 || (dir = opendir(argv[1])) == NULL) {
        (void)fprintf(stderr, "usage: %s FOLDER (with the corpus)\n", argv[0]);
        return EXIT_FAILURE;
    }
    while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (run_file(argv[1], entry->d_name) != 0) {
            (void)closedir(dir);
            return EXIT_FAILURE;
        }
        count++;
    }
    (void)closedir(dir);
    (void)printf("%d inputs\n", count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE; /* an empty corpus tests nothing */
}
