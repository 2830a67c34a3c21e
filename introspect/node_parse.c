/* Remote introspection XML read, checked and written anew, in one pass.
 *
 * The document comes from a service on another machine: any byte may be hostile. It is read by GMarkup, which
 * knows the five standard entities and character references and refuses every other (no "billion laughs"),
 * and passes over DOCTYPE, comments and processing instructions. Its work is linear in the length of the
 * text, and the length is bounded; so is the depth of elements, the number of interfaces, members and
 * children, and the length of what is written.
 *
 * While elements come, those that the D-Bus specification knows are written to the new text, with one
 * attribute after the other checked: interface, method and signal names as the specification has them,
 * property names as it bears them (any graphic ASCII: GObject-like names with dashes exist), exactly one
 * complete type for an argument or a property, together no more than a signature can hold, and the known
 * words for direction and access. One wrong value refuses the whole document: half an interface is worse than
 * none, since a client would believe it. What only adorns, an argument's name or an annotation, is dropped
 * when it is odd, and so is each element that is unknown or in the wrong place, with all that is in it.
 *
 * An interface that comes twice is kept the first time, which is what GDBus clients look up. Of the children
 * only names count (their own Introspect tells the rest): "a/b" means that there is an "a"; absolute names,
 * "..", and anything else that is no path are dropped.
 *
 * Errors name the line and the reason, and quote no more than a few escaped bytes: a log line is not a place
 * for a remote megabyte. Stateless; runs in whatever thread calls it. */
#include "introspect/node_private.h"

#include "wire/body.h"
#include "wire/message.h"

#define MAX_NAME 255

typedef enum {
    AT_TOP,
    AT_NODE,
    AT_INTERFACE,
    AT_METHOD,
    AT_SIGNAL,
    AT_PROPERTY,
    AT_ARGUMENT,
    AT_NOTHING, /* in an element whose content does not count */
    AT_DROPPED, /* in an element that is not written at all */
} Place;

static const char *const place_element[] = {
    [AT_INTERFACE] = "interface", [AT_METHOD] = "method", [AT_SIGNAL] = "signal",
    [AT_PROPERTY] = "property",   [AT_ARGUMENT] = "arg",  [AT_NOTHING] = "annotation",
};

typedef struct {
    GString *out;
    gboolean tag_open; /* "<name attributes" is written, neither ">" nor "/>" */
    Place places[CBUS_NODE_MAX_DEPTH + 1];
    guint depth;
    gboolean root_seen;
    GHashTable *interfaces; /* set of names */
    GPtrArray *children;    /* with doubles: a set of many hostile names could be made to collide */
    guint members;
    gsize in_length, out_length; /* of the member's signatures so far */
} Reader;

typedef struct {
    const char **names, **values;
} Attributes;

static const char *
attribute(const Attributes *attributes, const char *name)
{
    for (guint i = 0; attributes->names[i] != NULL; i++)
        if (g_str_equal(attributes->names[i], name))
            return attributes->values[i];
    return NULL;
}

static gboolean
refuse(GError **error, CbusNodeError code, const char *what, const char *value)
{
    g_autofree char *piece = NULL;
    g_autofree char *escaped = NULL;

    if (value == NULL) {
        g_set_error_literal(error, CBUS_NODE_ERROR, code, what);
        return FALSE;
    }
    piece = g_strndup(value, 64);
    escaped = g_strescape(piece, NULL);
    g_set_error(error, CBUS_NODE_ERROR, code, "%s: \"%s\"", what, escaped);
    return FALSE;
}

/* Text that any XML parser takes back as it is: no control character (a reader has made spaces of line feeds,
 * unless they were written as references), no noncharacter that XML 1.0 excludes. */
static gboolean
is_plain_text(const char *text, gsize max)
{
    if (strlen(text) > max)
        return FALSE;
    for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (g_unichar_iscntrl(c) || c == 0xfffe || c == 0xffff)
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_property_name(const char *name)
{
    gsize len = strlen(name);

    if (len == 0 || len > MAX_NAME)
        return FALSE;
    for (gsize i = 0; i < len; i++)
        if (!g_ascii_isgraph(name[i]))
            return FALSE;
    return TRUE;
}

static gboolean
is_single_type(const char *type)
{
    CbusSpan span = cbus_span(type);

    return span.len > 0 && cbus_signature_is_valid(span) && cbus_signature_next(type, span.len) == span.len;
}

static void
close_tag_before_child(Reader *reader)
{
    if (reader->tag_open)
        g_string_append(reader->out, ">\n");
    reader->tag_open = FALSE;
}

static void
write_indent(Reader *reader, guint depth)
{
    g_string_append_printf(reader->out, "%*s", (int)depth, "");
}

static void
write_element(Reader *reader, Place place)
{
    close_tag_before_child(reader);
    write_indent(reader, reader->depth);
    g_string_append_printf(reader->out, "<%s", place_element[place]);
    reader->tag_open = TRUE;
}

static void
write_attribute(Reader *reader, const char *name, const char *value)
{
    g_autofree char *escaped = g_markup_escape_text(value, -1);

    g_string_append_printf(reader->out, " %s=\"%s\"", name, escaped);
}

static gboolean
begin_interface(Reader *reader, const Attributes *attributes, Place *place, GError **error)
{
    const char *name = attribute(attributes, "name");

    if (name == NULL || !cbus_is_interface(cbus_span(name)))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "not an interface name", name);
    if (!g_hash_table_add(reader->interfaces, g_strdup(name))) {
        *place = AT_DROPPED;
        return TRUE;
    }
    if (g_hash_table_size(reader->interfaces) > CBUS_NODE_MAX_INTERFACES)
        return refuse(error, CBUS_NODE_ERROR_LIMIT,
                      "more than " G_STRINGIFY(CBUS_NODE_MAX_INTERFACES) " interfaces", NULL);
    write_element(reader, AT_INTERFACE);
    write_attribute(reader, "name", name);
    *place = AT_INTERFACE;
    return TRUE;
}

static gboolean
begin_child(Reader *reader, const Attributes *attributes, Place *place, GError **error)
{
    const char *name = attribute(attributes, "name");
    g_autofree char *path = NULL;

    *place = AT_DROPPED;
    if (name == NULL || strlen(name) > 4 * MAX_NAME)
        return TRUE;
    path = g_strconcat("/", name, NULL);
    if (name[0] == '\0' || !cbus_is_object_path(cbus_span(path)))
        return TRUE;
    g_ptr_array_add(reader->children, g_strndup(name, strcspn(name, "/")));
    if (reader->children->len > CBUS_NODE_MAX_CHILDREN)
        return refuse(error, CBUS_NODE_ERROR_LIMIT,
                      "more than " G_STRINGIFY(CBUS_NODE_MAX_CHILDREN) " child nodes", NULL);
    return TRUE;
}

static gboolean
begin_member(Reader *reader, Place member, const Attributes *attributes, GError **error)
{
    const char *name = attribute(attributes, "name");

    if (++reader->members > CBUS_NODE_MAX_MEMBERS)
        return refuse(error, CBUS_NODE_ERROR_LIMIT,
                      "more than " G_STRINGIFY(CBUS_NODE_MAX_MEMBERS) " methods, signals and properties",
                      NULL);
    if (name == NULL || !(member == AT_PROPERTY ? is_property_name(name) : cbus_is_member(cbus_span(name))))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "not a valid member name", name);
    reader->in_length = reader->out_length = 0;
    write_element(reader, member);
    write_attribute(reader, "name", name);
    return TRUE;
}

static gboolean
begin_property(Reader *reader, const Attributes *attributes, GError **error)
{
    const char *type = attribute(attributes, "type"), *access = attribute(attributes, "access");

    if (!begin_member(reader, AT_PROPERTY, attributes, error))
        return FALSE;
    if (type == NULL || !is_single_type(type))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "a property's type is not one complete type", type);
    if (access == NULL ||
        !(g_str_equal(access, "read") || g_str_equal(access, "write") || g_str_equal(access, "readwrite")))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "a property's access is not read, write or readwrite",
                      access);
    write_attribute(reader, "type", type);
    write_attribute(reader, "access", access);
    return TRUE;
}

static gboolean
begin_argument(Reader *reader, Place member, const Attributes *attributes, GError **error)
{
    const char *name = attribute(attributes, "name"), *type = attribute(attributes, "type");
    const char *direction = attribute(attributes, "direction");
    gsize *length;

    if (type == NULL || !is_single_type(type))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "an argument's type is not one complete type", type);
    if (direction != NULL && !g_str_equal(direction, "in") && !g_str_equal(direction, "out"))
        return refuse(error, CBUS_NODE_ERROR_INVALID, "an argument's direction is not in or out", direction);
    if (direction == NULL)
        direction = "in";
    length = g_str_equal(direction, "out") ? &reader->out_length : &reader->in_length;
    *length += strlen(type);
    if (*length > 255)
        return refuse(error, CBUS_NODE_ERROR_LIMIT, "the types of a member's arguments exceed a signature",
                      NULL);
    write_element(reader, AT_ARGUMENT);
    if (name != NULL && name[0] != '\0' && is_plain_text(name, MAX_NAME))
        write_attribute(reader, "name", name);
    write_attribute(reader, "type", type);
    if (member == AT_METHOD) /* a signal's arguments have one direction only: it says nothing */
        write_attribute(reader, "direction", direction);
    return TRUE;
}

static Place
begin_annotation(Reader *reader, const Attributes *attributes)
{
    const char *name = attribute(attributes, "name"), *value = attribute(attributes, "value");

    if (name == NULL || value == NULL || !cbus_is_interface(cbus_span(name)) ||
        !is_plain_text(value, CBUS_NODE_MAX_ANNOTATION))
        return AT_DROPPED;
    write_element(reader, AT_NOTHING);
    write_attribute(reader, "name", name);
    write_attribute(reader, "value", value);
    return AT_NOTHING;
}

/* Which place ELEMENT opens in PARENT, before its attributes are looked at. */
static Place
place_of(Place parent, const char *element)
{
    static const struct {
        const char *element;
        Place parent, place;
    } grammar[] = {
        {"node", AT_TOP, AT_NODE},
        {"interface", AT_NODE, AT_INTERFACE},
        {"node", AT_NODE, AT_NODE},
        {"method", AT_INTERFACE, AT_METHOD},
        {"signal", AT_INTERFACE, AT_SIGNAL},
        {"property", AT_INTERFACE, AT_PROPERTY},
        {"annotation", AT_INTERFACE, AT_NOTHING},
        {"arg", AT_METHOD, AT_ARGUMENT},
        {"annotation", AT_METHOD, AT_NOTHING},
        {"arg", AT_SIGNAL, AT_ARGUMENT},
        {"annotation", AT_SIGNAL, AT_NOTHING},
        {"annotation", AT_PROPERTY, AT_NOTHING},
        {"annotation", AT_ARGUMENT, AT_NOTHING},
    };

    for (guint i = 0; i < G_N_ELEMENTS(grammar); i++)
        if (grammar[i].parent == parent && g_str_equal(grammar[i].element, element))
            return grammar[i].place;
    return AT_DROPPED;
}

static gboolean
begin(Reader *reader, Place parent, Place *place, const Attributes *attributes, GError **error)
{
    switch (*place) {
        case AT_NODE:
            if (parent == AT_NODE)
                return begin_child(reader, attributes, place, error);
            if (reader->root_seen)
                return refuse(error, CBUS_NODE_ERROR_INVALID, "more than one root element", NULL);
            reader->root_seen = TRUE;
            return TRUE;
        case AT_INTERFACE:
            return begin_interface(reader, attributes, place, error);
        case AT_METHOD:
        case AT_SIGNAL:
            return begin_member(reader, *place, attributes, error);
        case AT_PROPERTY:
            return begin_property(reader, attributes, error);
        case AT_ARGUMENT:
            return begin_argument(reader, parent, attributes, error);
        case AT_NOTHING:
            *place = begin_annotation(reader, attributes);
            return TRUE;
        case AT_TOP:
        case AT_DROPPED:
            break;
    }
    if (parent == AT_TOP)
        return refuse(error, CBUS_NODE_ERROR_INVALID, "the root element is not <node>", NULL);
    return TRUE;
}

static void
on_start(GMarkupParseContext *context, const char *element, const char **names, const char **values,
         gpointer user_data, GError **error)
{
    Reader *reader = user_data;
    Attributes attributes = {names, values};
    Place parent = reader->places[reader->depth];
    Place place = place_of(parent, element);

    if (reader->depth == CBUS_NODE_MAX_DEPTH) {
        refuse(error, CBUS_NODE_ERROR_LIMIT, "elements more than " G_STRINGIFY(CBUS_NODE_MAX_DEPTH) " deep",
               NULL);
        return;
    }
    if (!begin(reader, parent, &place, &attributes, error))
        return;
    if (reader->out->len > CBUS_NODE_MAX_REBUILT) {
        refuse(error, CBUS_NODE_ERROR_LIMIT, "too much XML", NULL);
        return;
    }
    reader->places[++reader->depth] = place;
}

static void
on_end(GMarkupParseContext *context, const char *element, gpointer user_data, GError **error)
{
    Reader *reader = user_data;
    Place place = reader->places[reader->depth--];

    if (place == AT_NODE || place == AT_DROPPED)
        return;
    if (reader->tag_open) {
        g_string_append(reader->out, "/>\n");
    } else {
        write_indent(reader, reader->depth);
        g_string_append_printf(reader->out, "</%s>\n", place_element[place]);
    }
    reader->tag_open = FALSE;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes NAMES into a sorted vector without doubles. */
static char **
sorted_names(GPtrArray *names)
{
    guint kept = 0;

    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++) {
        char *name = g_steal_pointer(&names->pdata[i]);

        if (kept > 0 && g_str_equal(name, names->pdata[kept - 1]))
            g_free(name);
        else
            names->pdata[kept++] = name;
    }
    g_ptr_array_set_size(names, (gint)kept);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static GPtrArray *
set_to_array(GHashTable *set)
{
    GPtrArray *names = g_ptr_array_new();
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, set);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(names, name);
    }
    return names;
}

/* GMarkup's own messages quote the document without bound: say what is wrong in our words. */
static void
set_read_error(GMarkupParseContext *context, const GError *cause, GError **error)
{
    int line = 0;
    const char *reason = cause->message;
    gint code = CBUS_NODE_ERROR_INVALID;

    g_markup_parse_context_get_position(context, &line, NULL);
    if (cause->domain == CBUS_NODE_ERROR)
        code = cause->code;
    else if (cause->code == G_MARKUP_ERROR_EMPTY)
        reason = "the document is empty";
    else
        reason = "not well-formed XML";
    g_set_error(error, CBUS_NODE_ERROR, code, "introspection data, line %d: %s", line, reason);
}

CbusNode *
cbus_node_parse(const char *xml, gsize len, GError **error)
{
    static const GMarkupParser parser = {.start_element = on_start, .end_element = on_end};
    g_autoptr(GHashTable) interfaces = NULL;
    g_autoptr(GPtrArray) children = NULL;
    g_autoptr(GMarkupParseContext) context = NULL;
    g_autoptr(GError) cause = NULL;
    Reader reader = {.places = {AT_TOP}};

    if (len > CBUS_NODE_MAX_BYTES) {
        g_set_error(error, CBUS_NODE_ERROR, CBUS_NODE_ERROR_LIMIT,
                    "introspection data: %" G_GSIZE_FORMAT " bytes are more than %d", len,
                    CBUS_NODE_MAX_BYTES);
        return NULL;
    }
    if (!g_utf8_validate_len(xml, len, NULL)) {
        g_set_error_literal(error, CBUS_NODE_ERROR, CBUS_NODE_ERROR_INVALID, "introspection data: not UTF-8");
        return NULL;
    }
    interfaces = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    children = g_ptr_array_new_with_free_func(g_free);
    reader.interfaces = interfaces;
    reader.children = children;
    reader.out = g_string_sized_new(MIN(len, 64 * 1024));
    context = g_markup_parse_context_new(&parser, G_MARKUP_DEFAULT_FLAGS, &reader, NULL);
    if (!g_markup_parse_context_parse(context, xml, (gssize)len, &cause) ||
        !g_markup_parse_context_end_parse(context, &cause)) {
        set_read_error(context, cause, error);
        g_string_free(reader.out, TRUE);
        return NULL;
    }
    return cbus_node_new_take(reader.out, sorted_names(set_to_array(interfaces)),
                              sorted_names(g_steal_pointer(&children)));
}
