/* Arguments of a method call from JSON, by their signature.
 *
 *     cbus invoke DEST PATH METHOD sa{sv} --args-json '["web", {"Level": {"type": "u", "data": 7}}]'
 *
 * The same form as --json prints, read as strictly as agents read what plain NATS clients send them
 * (wire/json_read.c): a number that its type can not hold is refused and never cut to one that it can, since
 * what was meant for one machine may be executed on a fleet. One that JSON readers could not hold (64 bits)
 * may be a string, as may any basic value but a boolean.
 *
 * The reader marshals; GDBus makes values of that, as it does of every message. The text is the operator's
 * own but often another program's output. Errors say where, and which type was wanted. Pure. */
#include "cli/arguments.h"

#include "wire/json.h"

static GVariant *
values_of(GByteArray *message, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDBusMessage) parsed =
        g_dbus_message_new_from_blob(message->data, message->len, G_DBUS_CAPABILITY_FLAGS_NONE, &cause);
    GVariant *body = parsed != NULL ? g_dbus_message_get_body(parsed) : NULL;

    if (parsed == NULL) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE,
                    "the arguments can not be sent: %s", cause->message);
        return NULL;
    }
    return body != NULL ? g_variant_ref(body) : g_variant_ref_sink(g_variant_new_tuple(NULL, 0));
}

GVariant *
cbus_arguments_from_json(const char *signature, const char *json, GError **error)
{
    const CbusHeader header = {.endian = CBUS_ENDIAN_NATIVE,
                               .type = CBUS_MESSAGE_CALL,
                               .serial = 1,
                               .path = CBUS_SPAN_LITERAL("/"),
                               .member = CBUS_SPAN_LITERAL("Arguments"),
                               .signature = cbus_span(signature)};
    g_autoptr(GVariantType) type = cbus_arguments_type(signature, error);
    g_autoptr(GByteArray) message = g_byte_array_new();
    g_autoptr(GError) cause = NULL;
    gsize start, body;

    if (type == NULL)
        return NULL;
    start = cbus_header_append(message, &header, 0);
    body = message->len;
    if (!cbus_json_read_body(message, json, strlen(json), header.signature, &cause)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE, "--args-json: %s",
                    cause->message);
        return NULL;
    }
    if (!cbus_header_close(message, start, body)) {
        g_set_error(error, CBUS_ARGUMENTS_ERROR, CBUS_ARGUMENTS_ERROR_VALUE,
                    "the arguments are more than the 128 MiB of a message");
        return NULL;
    }
    return values_of(message, error);
}
