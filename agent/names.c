/* Who owns which names.
 *
 * A policy is about services, messages are addressed to names, and what answers is a process. This is the map
 * between the three, kept from the bus's NameOwnerChanged signals; connections that own no name are not in
 * it, so that its size is that of the bus's names and not of its clients. A name that is queued for belongs
 * to its primary owner alone.
 *
 * Beside it there is a bounded set of strangers that called the client: it may look them up and see them go,
 * as any service needs to with its callers. When it is full, further ones are not followed.
 *
 * Trust: the names come from the bus; any local user can own some, so that their number is bounded. Loop
 * thread only. */
#include "agent/names.h"

#define STRANGERS_MAX 1024
#define NAME_BYTES    256

typedef struct {
    char *unique;
    GPtrArray *names; /* char *, NULL-terminated */
} Owner;

struct _CbusNames {
    GHashTable *owners;    /* unique name (in the value) → Owner */
    GHashTable *by_name;   /* well-known name → Owner, borrowed */
    GHashTable *strangers; /* unique names */
};

static void
owner_free(Owner *owner)
{
    g_free(owner->unique);
    g_ptr_array_unref(owner->names);
    g_free(owner);
}

CbusNames *
cbus_names_new(void)
{
    CbusNames *self = g_new0(CbusNames, 1);

    self->owners = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)owner_free);
    self->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->strangers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return self;
}

void
cbus_names_free(CbusNames *self)
{
    g_hash_table_unref(self->by_name);
    g_hash_table_unref(self->owners);
    g_hash_table_unref(self->strangers);
    g_free(self);
}

/* A bus name as a C string in BUFFER; NULL: too long for one. */
static const char *
text_of(CbusSpan name, char buffer[NAME_BYTES])
{
    if (name.text == NULL || name.len >= NAME_BYTES)
        return NULL;
    memcpy(buffer, name.text, name.len);
    buffer[name.len] = '\0';
    return buffer;
}

static guint
position_of(const Owner *owner, const char *name)
{
    guint at = 0;

    while (!g_str_equal(g_ptr_array_index(owner->names, at), name))
        at++;
    return at;
}

static void
drop_name(CbusNames *self, const char *name)
{
    Owner *owner = g_hash_table_lookup(self->by_name, name);

    if (owner == NULL)
        return;
    g_hash_table_remove(self->by_name, name);
    g_ptr_array_remove_index(owner->names, position_of(owner, name));
    if (owner->names->len == 1)
        g_hash_table_remove(self->owners, owner->unique);
}

gboolean
cbus_names_set_owner(CbusNames *self, CbusSpan name, CbusSpan unique)
{
    char name_buffer[NAME_BYTES], unique_buffer[NAME_BYTES];
    const char *text = text_of(name, name_buffer), *id = text_of(unique, unique_buffer);
    Owner *owner;

    if (text == NULL || id == NULL)
        return FALSE;
    drop_name(self, text);
    if (unique.len == 0)
        return TRUE;
    if (g_hash_table_size(self->by_name) >= CBUS_NAMES_MAX)
        return FALSE;
    owner = g_hash_table_lookup(self->owners, id);
    if (owner == NULL) {
        owner = g_new0(Owner, 1);
        owner->unique = g_strdup(id);
        owner->names = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(owner->names, NULL);
        g_hash_table_insert(self->owners, owner->unique, owner);
    }
    g_ptr_array_insert(owner->names, 0, g_strdup(text));
    g_hash_table_insert(self->by_name, g_strdup(text), owner);
    return TRUE;
}

void
cbus_names_forget(CbusNames *self, CbusSpan unique)
{
    char buffer[NAME_BYTES];
    const char *id = text_of(unique, buffer);
    Owner *owner = id != NULL ? g_hash_table_lookup(self->owners, id) : NULL;

    if (id != NULL)
        g_hash_table_remove(self->strangers, id);
    if (owner == NULL)
        return;
    for (guint i = 0; i + 1 < owner->names->len; i++)
        g_hash_table_remove(self->by_name, g_ptr_array_index(owner->names, i));
    g_hash_table_remove(self->owners, id);
}

const char *const *
cbus_names_of(const CbusNames *self, CbusSpan name)
{
    char buffer[NAME_BYTES];
    const char *text = text_of(name, buffer);
    Owner *owner = NULL;

    if (text != NULL)
        owner = g_hash_table_lookup(text[0] == ':' ? self->owners : self->by_name, text);
    return owner != NULL ? (const char *const *)owner->names->pdata : NULL;
}

void
cbus_names_meet(CbusNames *self, CbusSpan unique)
{
    char buffer[NAME_BYTES];
    const char *id = text_of(unique, buffer);

    if (id == NULL || g_hash_table_size(self->strangers) >= STRANGERS_MAX)
        return;
    if (!g_hash_table_contains(self->strangers, id))
        g_hash_table_add(self->strangers, g_strdup(id));
}

gboolean
cbus_names_has_met(const CbusNames *self, CbusSpan unique)
{
    char buffer[NAME_BYTES];
    const char *id = text_of(unique, buffer);

    return id != NULL && g_hash_table_contains(self->strangers, id);
}
