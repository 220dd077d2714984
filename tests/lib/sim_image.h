/*
 * The content of a file of the simulated disk: pages shared between copies until one is written, so
 * that a copy of a file costs its page table and zeros cost nothing.
 *
 * Owns:    references to its pages.
 * Thread:  one.
 * Holds:   pages beyond size_bytes are absent, bytes of the last page beyond it are zero.
 */
#ifndef TESTS_LIB_SIM_IMAGE_H
#define TESTS_LIB_SIM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define SIM_PAGE 4096u

struct sim_page;

struct sim_image {
    uint64_t size_bytes;
    struct sim_page **pages; /* NULL entry = zeros */
    size_t page_cap;
};

void sim_image_fini(struct sim_image *img);
void sim_image_copy(struct sim_image *dst, const struct sim_image *src); /* dst is empty before */
void sim_image_resize(struct sim_image *img, uint64_t size_bytes);

/* Bytes beyond the size are not written: resize first. src NULL = zeros. */
void sim_image_write(struct sim_image *img, uint64_t offset, const uint8_t *src, size_t len);
size_t sim_image_read(const struct sim_image *img, uint64_t offset, uint8_t *dst, size_t len);
int sim_image_equal(const struct sim_image *a, const struct sim_image *b);

/*
 * Allocation that does not come back without memory; not the program's (mem.h), so that faults do
 * not hit it.
 */
void *sim_alloc(size_t size_bytes);
void *sim_grow(void *ptr, size_t size_bytes);
void sim_free(void *ptr);

#endif
