/* See the header. The mirror's two ends are in fake-ends.c; here they are made, driven and looked at. */
#include "fake-mirror.h"
#include <sodium.h>
#include <unistd.h>

static void
count_services_changed(CbusMirror *mirror, gpointer user_data)
{
    ((Fake *)user_data)->services_changed++;
}

static void
count_signals_lost_changed(CbusMirror *mirror, gpointer user_data)
{
    ((Fake *)user_data)->signals_lost_changed++;
}

static void
keep_bus_error(CbusMirror *mirror, const char *reason, gpointer user_data)
{
    Fake *fake = user_data;

    g_free(fake->bus_error);
    fake->bus_error = g_strdup(reason);
    fake->bus_changed++;
}

static void
channel_free(gpointer data)
{
    FakeChannel *channel = data;

    g_ptr_array_unref(channel->sent);
    g_free(channel);
}

static void
tree_free(gpointer data)
{
    FakeTree *tree = data;

    g_free(tree->destination);
    g_free(tree);
}

static gint64
fake_clock(gpointer data)
{
    return ((Fake *)data)->now;
}

Fake *
fake_new(void)
{
    static const CbusMirrorHandler handler = {count_services_changed, count_signals_lost_changed,
                                              keep_bus_error};
    Fake *fake = g_new0(Fake, 1);
    char nkey[CBUS_NKEY_LENGTH + 1];
    guint8 secret[crypto_sign_SECRETKEYBYTES];
    static const guint8 seed[crypto_sign_SEEDBYTES] = {1};

    fake->context = g_main_context_new();
    fake->loop.context = fake->context;
    fake->front.building = g_byte_array_new();
    fake->front.serial = 0x80000000u;
    fake->front.uid = geteuid();
    fake->front.message_max = CBUS_MESSAGE_MAX;
    g_queue_init(&fake->front.out);
    fake->link.channels = g_ptr_array_new_with_free_func(channel_free);
    g_queue_init(&fake->link.trees);
    crypto_sign_seed_keypair(fake->machine.bytes, secret, seed);
    cbus_nkey_encode(&fake->machine, nkey);
    fake->root = g_strconcat(CBUS_ROOT_PATH "/", nkey, NULL);
    fake->store = cbus_node_store_new();
    fake->next_serial = 100;
    fake->mirror = cbus_mirror_new(&fake->loop, &fake->front, fake->store, &fake->machine, &handler, fake);
    cbus_mirror_set_label(fake->mirror, "web1");
    fake->now = G_USEC_PER_SEC;
    cbus_mirror_set_clock(fake->mirror, fake_clock, fake);
    return fake;
}

void
fake_pass(Fake *fake, guint seconds)
{
    fake->now += seconds * G_USEC_PER_SEC;
    cbus_mirror_tick(fake->mirror);
}

void
fake_free(Fake *fake)
{
    cbus_mirror_free(fake->mirror);
    cbus_node_store_free(fake->store);
    g_queue_clear_full(&fake->front.out, g_object_unref);
    g_queue_clear_full(&fake->link.trees, tree_free);
    g_byte_array_unref(fake->front.building);
    g_ptr_array_unref(fake->link.channels);
    g_main_context_unref(fake->context);
    g_free(fake->bus_error);
    g_free(fake->root);
    g_free(fake);
}

void
fake_up(Fake *fake)
{
    fake->link.busy = FALSE; /* a new link, with the old channels to look at */
    cbus_mirror_link_up(fake->mirror, &fake->link);
}

FakeChannel *
fake_channel(Fake *fake, guint index)
{
    g_assert_cmpuint(index, <, fake->link.channels->len);
    return g_ptr_array_index(fake->link.channels, index);
}

guint
fake_open_channels(Fake *fake)
{
    guint open = 0;

    for (guint i = 0; i < fake->link.channels->len; i++)
        open += fake_channel(fake, i)->closed ? 0 : 1;
    return open;
}

GDBusMessage *
fake_last_sent(FakeChannel *channel)
{
    g_assert_cmpuint(channel->sent->len, >, 0);
    return g_ptr_array_index(channel->sent, channel->sent->len - 1);
}

GDBusMessage *
fake_last(Fake *fake, guint index)
{
    return fake_last_sent(fake_channel(fake, index));
}

static GVariant *
names_variant(const char *const *names)
{
    g_auto(GVariantBuilder) builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("as"));

    g_variant_builder_add(&builder, "s", "org.freedesktop.DBus");
    g_variant_builder_add(&builder, "s", ":1.5");
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        g_auto(GStrv) parts = g_strsplit(names[i], "=", 2);

        g_variant_builder_add(&builder, "s", parts[0]);
    }
    return g_variant_new("(as)", &builder);
}

static void
answer_owner(Fake *fake, guint index, GDBusMessage *call, const char *const *names)
{
    const char *asked = NULL;

    g_variant_get(g_dbus_message_get_body(call), "(&s)", &asked);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        g_auto(GStrv) parts = g_strsplit(names[i], "=", 2);

        if (g_str_equal(parts[0], asked)) {
            fake_reply(fake, index, call, g_variant_new("(s)", parts[1]));
            return;
        }
    }
    fake_reply(fake, index, call, g_variant_new("(s)", asked));
}

void
fake_settle(Fake *fake, guint index, const char *const *names, const char *const *activatable)
{
    FakeChannel *channel = fake_channel(fake, index);

    cbus_mirror_opened(fake->mirror, channel->id);
    for (guint i = 0; i < channel->sent->len; i++) {
        GDBusMessage *call = g_ptr_array_index(channel->sent, i);
        const char *member = g_dbus_message_get_member(call);

        if (g_str_equal(member, "Hello"))
            fake_reply(fake, index, call, g_variant_new("(s)", ":1.99"));
        else if (g_str_equal(member, "AddMatch"))
            fake_reply(fake, index, call, NULL);
        else if (g_str_equal(member, "ListNames"))
            fake_reply(fake, index, call, names_variant(names));
        else if (g_str_equal(member, "ListActivatableNames"))
            fake_reply(fake, index, call, names_variant(activatable));
        else if (g_str_equal(member, "GetNameOwner"))
            answer_owner(fake, index, call, names);
    }
}

GDBusMessage *
fake_message(Fake *fake, const char *service, const char *path, const char *member, GVariant *body)
{
    g_autoptr(GString) local = g_string_new(fake->root);
    GDBusMessage *message;

    g_string_append_c(local, '/');
    cbus_service_escape(local, service);
    if (!g_str_equal(path, "/"))
        g_string_append(local, path);
    message = g_dbus_message_new_method_call("ie.bmcgee.CBus", local->str, "com.example.Test", member);
    g_dbus_message_set_serial(message, fake->next_serial++);
    if (body != NULL)
        g_dbus_message_set_body(message, body);
    return message;
}

guint32
fake_call(Fake *fake, const char *sender, GDBusMessage *call)
{
    guint32 serial = g_dbus_message_get_serial(call);
    g_autofree guchar *bytes = NULL;
    g_autoptr(GError) error = NULL;
    CbusMessage view;
    CbusPlace place;
    gsize size;

    g_dbus_message_set_sender(call, sender);
    bytes = g_dbus_message_to_blob(call, &size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, &error);
    g_assert_no_error(error);
    g_assert_true(cbus_message_view(&view, bytes, size, &error));
    cbus_place_parse(view.path, &place);
    g_assert_cmpint(place.kind, ==, CBUS_PLACE_SERVICE);
    cbus_mirror_call(fake->mirror, &place, &view, bytes);
    g_object_unref(call);
    return serial;
}

guint32
fake_ping(Fake *fake, const char *sender, const char *service)
{
    return fake_call(fake, sender, fake_message(fake, service, "/a", "Ping", NULL));
}

guint32
fake_introspect(Fake *fake, const char *sender, const char *service, const char *path)
{
    GDBusMessage *call = fake_message(fake, service, path, "Introspect", NULL);

    g_dbus_message_set_interface(call, "org.freedesktop.DBus.Introspectable");
    return fake_call(fake, sender, call);
}

void
fake_receive(Fake *fake, guint index, GDBusMessage *message)
{
    g_autofree guchar *bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    if (g_dbus_message_get_serial(message) == 0)
        g_dbus_message_set_serial(message, 1);
    bytes = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, &error);
    g_assert_no_error(error);
    g_assert_true(cbus_mirror_message(fake->mirror, fake_channel(fake, index)->id, bytes, size));
    g_object_unref(message);
}

void
fake_reply(Fake *fake, guint index, GDBusMessage *call, GVariant *body)
{
    GDBusMessage *reply = g_dbus_message_new_method_reply(call);

    if (body != NULL)
        g_dbus_message_set_body(reply, body);
    g_dbus_message_set_sender(reply, ":1.5");
    fake_receive(fake, index, reply);
}

void
fake_reply_error(Fake *fake, guint index, GDBusMessage *call, const char *name)
{
    fake_receive(fake, index, g_dbus_message_new_method_error_literal(call, name, "as the remote says it"));
}

void
fake_signal(Fake *fake, const char *sender, const char *path, const char *interface, const char *member,
            GVariant *body)
{
    GDBusMessage *signal = g_dbus_message_new_signal(path, interface, member);

    g_dbus_message_set_sender(signal, sender);
    if (body != NULL)
        g_dbus_message_set_body(signal, body);
    fake_receive(fake, 0, signal);
}

void
fake_owner_changed(Fake *fake, const char *name, const char *before, const char *after)
{
    fake_signal(fake, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                "NameOwnerChanged", g_variant_new("(sss)", name, before, after));
}

void
fake_tree(Fake *fake, const char *path, const char *xml, const char *error_name)
{
    FakeTree *request = g_queue_pop_head(&fake->link.trees);
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_assert_nonnull(request);
    if (error_name != NULL) {
        cbus_tree_write_error(request->id, error_name, "as the remote says it", bytes);
    } else {
        g_autoptr(CbusTree) tree = cbus_tree_new();

        g_assert_true(cbus_tree_add(tree, path, xml, strlen(xml)));
        cbus_tree_write(tree, request->id, bytes);
    }
    g_assert_true(
        cbus_mirror_tree(fake->mirror, request->channel, request->id, bytes->data + 4, bytes->len - 4));
    tree_free(request);
}

GDBusMessage *
fake_take(Fake *fake)
{
    return g_queue_pop_head(&fake->front.out);
}

void
fake_assert_silent(Fake *fake)
{
    g_autoptr(GDBusMessage) message = fake_take(fake);
    g_autofree char *text = message != NULL ? g_dbus_message_print(message, 0) : NULL;

    g_assert_cmpstr(text, ==, NULL);
}

void
fake_assert_error(Fake *fake, guint32 serial, const char *name, const char *hint)
{
    g_autoptr(GDBusMessage) message = fake_take(fake);
    const char *text = NULL;

    g_assert_nonnull(message);
    g_assert_cmpuint(g_dbus_message_get_reply_serial(message), ==, serial);
    g_assert_cmpstr(g_dbus_message_get_error_name(message), ==, name);
    g_variant_get(g_dbus_message_get_body(message), "(&s)", &text);
    if (hint != NULL && g_strstr_len(text, -1, hint) == NULL)
        g_error("'%s' does not say '%s'", text, hint);
}

void
fake_assert_reply(Fake *fake, guint32 serial, const char *body)
{
    g_autoptr(GDBusMessage) message = fake_take(fake);
    g_autofree char *text = NULL;

    g_assert_nonnull(message);
    g_assert_cmpint(g_dbus_message_get_message_type(message), ==, G_DBUS_MESSAGE_TYPE_METHOD_RETURN);
    g_assert_cmpuint(g_dbus_message_get_reply_serial(message), ==, serial);
    if (g_dbus_message_get_body(message) != NULL)
        text = g_variant_print(g_dbus_message_get_body(message), TRUE);
    g_assert_cmpstr(text, ==, body);
}

void
fake_assert_xml(Fake *fake, guint32 serial, const char *hint, gboolean holds)
{
    g_autoptr(GDBusMessage) message = fake_take(fake);
    g_autofree char *text = NULL;
    const char *xml = NULL;

    g_assert_nonnull(message);
    text = g_dbus_message_print(message, 0);
    g_assert_cmpuint(g_dbus_message_get_reply_serial(message), ==, serial);
    if (g_dbus_message_get_message_type(message) != G_DBUS_MESSAGE_TYPE_METHOD_RETURN)
        g_error("no XML: %s", text);
    g_variant_get(g_dbus_message_get_body(message), "(&s)", &xml);
    if ((g_strstr_len(xml, -1, hint) != NULL) != holds)
        g_error("%s %s: %s", hint, holds ? "is missing in" : "must not be in", xml);
}
