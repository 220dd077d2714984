#include "tests/lib/sim_image.h"

#include "core/base/check.h"

#include <stdlib.h>
#include <string.h>

struct sim_page {
    uint32_t refs;
    uint8_t bytes[SIM_PAGE];
};

void *sim_alloc(size_t size_bytes)
{
    void *ptr = calloc(1, size_bytes == 0 ? 1 : size_bytes);

    CHECK(ptr != NULL);
    return ptr;
}

void *sim_grow(void *ptr, size_t size_bytes)
{
    void *grown = realloc(ptr, size_bytes);

    CHECK(grown != NULL);
    return grown;
}

void sim_free(void *ptr)
{
    free(ptr);
}

static void page_put(struct sim_page **page)
{
    if (*page != NULL && --(*page)->refs == 0) {
        sim_free(*page);
    }
    *page = NULL;
}

static size_t page_count(uint64_t size_bytes)
{
    return (size_t)((size_bytes + SIM_PAGE - 1) / SIM_PAGE);
}

void sim_image_fini(struct sim_image *img)
{
    for (size_t i = 0; i < page_count(img->size_bytes); i++) {
        page_put(&img->pages[i]);
    }
    sim_free(img->pages);
    *img = (struct sim_image){.size_bytes = 0};
}

void sim_image_copy(struct sim_image *dst, const struct sim_image *src)
{
    size_t count = page_count(src->size_bytes);

    *dst = (struct sim_image){.size_bytes = src->size_bytes, .page_cap = count};
    dst->pages = sim_alloc(count * sizeof(struct sim_page *));
    for (size_t i = 0; i < count; i++) {
        dst->pages[i] = src->pages[i];
        if (dst->pages[i] != NULL) {
            dst->pages[i]->refs++;
        }
    }
}

/* A page of our own to write into. */
static struct sim_page *page_own(struct sim_image *img, size_t index)
{
    struct sim_page *page = img->pages[index];

    if (page == NULL) {
        page = sim_alloc(sizeof *page);
        page->refs = 1;
    } else if (page->refs > 1) {
        struct sim_page *copy = sim_alloc(sizeof *copy);
        memcpy(copy->bytes, page->bytes, SIM_PAGE);
        copy->refs = 1;
        page->refs--;
        page = copy;
    }
    img->pages[index] = page;
    return page;
}

void sim_image_resize(struct sim_image *img, uint64_t size_bytes)
{
    size_t before = page_count(img->size_bytes);
    size_t after = page_count(size_bytes);

    for (size_t i = after; i < before; i++) {
        page_put(&img->pages[i]);
    }
    if (after > img->page_cap) {
        size_t cap = after < 2 * img->page_cap ? 2 * img->page_cap : after;
        img->pages = sim_grow(img->pages, cap * sizeof(struct sim_page *));
        img->page_cap = cap;
    }
    for (size_t i = before; i < after; i++) {
        img->pages[i] = NULL;
    }
    if (size_bytes < img->size_bytes && size_bytes % SIM_PAGE != 0 &&
        img->pages[after - 1] != NULL) {
        size_t keep = (size_t)(size_bytes % SIM_PAGE);
        memset(page_own(img, after - 1)->bytes + keep, 0, SIM_PAGE - keep);
    }
    img->size_bytes = size_bytes;
}

void sim_image_write(struct sim_image *img, uint64_t offset, const uint8_t *src, size_t len)
{
    if (offset >= img->size_bytes) {
        return;
    }
    if (len > img->size_bytes - offset) {
        len = (size_t)(img->size_bytes - offset);
    }
    while (len > 0) {
        size_t index = (size_t)(offset / SIM_PAGE);
        size_t at = (size_t)(offset % SIM_PAGE);
        size_t part = len < SIM_PAGE - at ? len : SIM_PAGE - at;

        if (src == NULL && at == 0 && part == SIM_PAGE) {
            page_put(&img->pages[index]);
        } else if (src == NULL && img->pages[index] != NULL) {
            memset(page_own(img, index)->bytes + at, 0, part);
        } else if (src != NULL) {
            memcpy(page_own(img, index)->bytes + at, src, part);
            src += part;
        }
        offset += part;
        len -= part;
    }
}

size_t sim_image_read(const struct sim_image *img, uint64_t offset, uint8_t *dst, size_t len)
{
    size_t done = 0;

    if (offset >= img->size_bytes) {
        return 0;
    }
    if (len > img->size_bytes - offset) {
        len = (size_t)(img->size_bytes - offset);
    }
    while (done < len) {
        const struct sim_page *page = img->pages[(offset + done) / SIM_PAGE];
        size_t at = (size_t)((offset + done) % SIM_PAGE);
        size_t part = len - done < SIM_PAGE - at ? len - done : SIM_PAGE - at;

        if (page == NULL) {
            memset(dst + done, 0, part);
        } else {
            memcpy(dst + done, page->bytes + at, part);
        }
        done += part;
    }
    return done;
}

int sim_image_equal(const struct sim_image *a, const struct sim_image *b)
{
    uint8_t x[SIM_PAGE];
    uint8_t y[SIM_PAGE];

    if (a->size_bytes != b->size_bytes) {
        return 0;
    }
    for (uint64_t at = 0; at < a->size_bytes; at += SIM_PAGE) {
        size_t len = sim_image_read(a, at, x, sizeof x);
        (void)sim_image_read(b, at, y, sizeof y);
        if (a->pages[at / SIM_PAGE] != b->pages[at / SIM_PAGE] && memcmp(x, y, len) != 0) {
            return 0;
        }
    }
    return 1;
}
