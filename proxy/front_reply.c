/* Answers of our own to calls on the session bus: built in place in the front's queue, behind what waits
 * there.
 *
 * Names and texts are ours; of the call only its sender and its serial are used, which the front has checked.
 * Loop thread only. */
#include "proxy/front.h"

CbusHeader
cbus_front_reply_header(CbusFront *front, const CbusMessage *call)
{
    return (CbusHeader){
        .endian = CBUS_ENDIAN_NATIVE,
        .type = CBUS_MESSAGE_RETURN,
        .flags = CBUS_FLAG_NO_REPLY,
        .serial = cbus_front_serial(front),
        .reply_serial = call->serial,
        .destination = call->sender,
    };
}

void
cbus_front_reply_error(CbusFront *front, const CbusMessage *call, const char *error_name, const char *format,
                       ...)
{
    if ((call->flags & CBUS_FLAG_NO_REPLY) != 0) {
        return;
    }
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    guint32 serial = cbus_front_serial(front);
    cbus_message_append_error(cbus_front_begin(front), serial, call, error_name, message);
    cbus_front_end(front);
}

void
cbus_front_reply_empty(CbusFront *front, const CbusMessage *call)
{
    if ((call->flags & CBUS_FLAG_NO_REPLY) == 0) {
        CbusHeader header = cbus_front_reply_header(front, call);
        cbus_message_append(cbus_front_begin(front), &header, "");
        cbus_front_end(front);
    }
}

void
cbus_front_reply_string(CbusFront *front, const CbusMessage *call, const char *text)
{
    if ((call->flags & CBUS_FLAG_NO_REPLY) == 0) {
        CbusHeader header = cbus_front_reply_header(front, call);
        cbus_message_append(cbus_front_begin(front), &header, "s", text);
        cbus_front_end(front);
    }
}
