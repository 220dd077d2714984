#include "core/filter/filter.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/filter/sql.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"

struct filter {
    enum filter_type type;
    uint32_t refs;
    struct sql_program *program; /* FILTER_SQL */
    struct tag_filter tags;      /* the others */
    size_t text_len;
    uint8_t text[];
};

static int compile_tags(struct filter *f, struct err_ctx *err)
{
    int rc = tag_filter_parse(filter_text(f), &f->tags);

    if (rc == ESCROW_ELIMIT) {
        return err_set(err, rc, "the expression has more than %d tags", TAG_FILTER_MAX);
    }
    if (rc != 0) {
        return err_set(err, rc, "the expression has no tag");
    }
    f->type = f->tags.is_all ? FILTER_ALL : FILTER_TAG;
    return 0;
}

int filter_compile(struct slice type, struct slice expression, struct filter **out,
                   struct err_ctx *err)
{
    bool is_sql = slice_eq_str(type, "SQL92");
    struct filter *f;
    int rc;

    *out = NULL;
    if (!is_sql && type.len > 0 && !slice_eq_str(type, "TAG")) {
        return err_set(err, ESCROW_ENOTSUP, "the type of expression is neither TAG nor SQL92");
    }
    f = mem_calloc(1, sizeof *f + expression.len);
    if (f == NULL) {
        return err_set(err, ESCROW_ENOMEM, "%s", escrow_strerror(ESCROW_ENOMEM));
    }
    f->refs = 1;
    f->type = FILTER_SQL;
    f->text_len = expression.len;
    if (expression.len > 0) {
        memcpy(f->text, expression.ptr, expression.len);
    }
    rc = is_sql ? sql_compile(filter_text(f), &f->program, err) : compile_tags(f, err);
    if (rc != 0) {
        mem_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

struct filter *filter_hold(struct filter *filter)
{
    CHECK(filter->refs > 0);
    CHECK(filter->refs < UINT32_MAX);
    filter->refs++;
    return filter;
}

void filter_free(struct filter **filter)
{
    struct filter *f = *filter;

    *filter = NULL;
    if (f == NULL) {
        return;
    }
    CHECK(f->refs > 0);
    if (--f->refs == 0) {
        sql_free(&f->program);
        mem_free(f);
    }
}

enum filter_type filter_type_of(const struct filter *filter)
{
    return filter->type;
}

struct slice filter_text(const struct filter *filter)
{
    return slice_of(filter->text, filter->text_len);
}

bool filter_may_match(const struct filter *filter, int64_t tag_code)
{
    return filter->type == FILTER_SQL || tag_filter_match(&filter->tags, tag_code);
}

bool filter_needs_properties(const struct filter *filter)
{
    return filter->type == FILTER_SQL;
}

bool filter_match(const struct filter *filter, struct slice properties)
{
    struct slice tag = SLICE_EMPTY;

    switch (filter->type) {
    case FILTER_ALL:
        return true;
    case FILTER_TAG:
        return props_find(properties, prop_name(PROP_TAGS), &tag) &&
               tag_expression_match(filter_text(filter), tag);
    case FILTER_SQL:
        return sql_eval(filter->program, properties) == SQL_TRUE;
    }
    UNREACHABLE("every type is handled");
}

uint64_t filter_cost(const struct filter *filter, struct slice properties)
{
    switch (filter->type) {
    case FILTER_ALL:
        return 1;
    case FILTER_TAG:
        return properties.len + filter->text_len;
    case FILTER_SQL:
        return sql_cost(filter->program, properties.len);
    }
    UNREACHABLE("every type is handled");
}
