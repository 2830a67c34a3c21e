/* Child nodes out of introspection XML, by GMarkup's parser.
 *
 * The document comes from any service of the bus and may say anything. Only direct children of the root node
 * are taken, since each is asked for its own document in turn; whatever else stands there is the reader's
 * business (introspect/ validates and rebuilds it on the proxy). GMarkup knows no entities beyond the five
 * and no external ones, its depth costs a list node a level, and the caller bounds the size.
 *
 * A name with a slash would be several elements at once. No service of note writes one, and walking it would
 * need a rule for the nodes between; it is skipped like any other name that is no path element.
 *
 * Pure; any thread. */
#include "agent/children.h"

typedef struct {
    guint depth;
    CbusChildFunc func;
    gpointer user_data;
} Parse;

static gboolean
is_element(const char *name)
{
    gsize i = 0;

    for (; name[i] != '\0'; i++)
        if (!g_ascii_isalnum(name[i]) && name[i] != '_')
            return FALSE;
    return i > 0;
}

static void
start_element(GMarkupParseContext *context, const char *element, const char **names, const char **values,
              gpointer user_data, GError **error)
{
    Parse *parse = user_data;

    parse->depth++;
    if (parse->depth != 2 || !g_str_equal(element, "node"))
        return;
    for (guint i = 0; names[i] != NULL; i++)
        if (g_str_equal(names[i], "name") && is_element(values[i]))
            parse->func(values[i], parse->user_data);
}

static void
end_element(GMarkupParseContext *context, const char *element, gpointer user_data, GError **error)
{
    Parse *parse = user_data;

    parse->depth--;
}

gboolean
cbus_children_parse(const char *xml, gsize len, CbusChildFunc func, gpointer user_data)
{
    static const GMarkupParser parser = {.start_element = start_element, .end_element = end_element};
    Parse parse = {.func = func, .user_data = user_data};
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0, &parse, NULL);
    gboolean done = g_markup_parse_context_parse(context, xml, (gssize)len, NULL) &&
                    g_markup_parse_context_end_parse(context, NULL);

    g_markup_parse_context_free(context);
    return done;
}
