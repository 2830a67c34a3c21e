/* One proxy's link and its channels. Loop thread only. */
#pragma once
#include "agent/host.h"
#include "agent/server_info.h"
#include "link/link.h"

typedef struct _CbusPeer CbusPeer;
/* The link ended by itself. The owner frees the peer, here or later. */
typedef void (*CbusPeerEnded)(CbusPeer *peer, const GError *reason, gpointer user_data);

/* LINK: (transfer full), accepted. ENTRY: the line that authorizes CALLER; copied. Sends SERVERINFO. */
CbusPeer *cbus_peer_new(const CbusHost *host, const CbusServerInfo *info, CbusLink *link,
                        const CbusKey *caller, const CbusTableEntry *entry, CbusPeerEnded ended,
                        gpointer user_data);
/* Closes every channel's bus connection and frees the link; the proxy is told nothing. */
void cbus_peer_free(CbusPeer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusPeer, cbus_peer_free)

/* Tells the proxy that the link ends, and why; free it afterwards. */
void cbus_peer_close(CbusPeer *peer, const char *message);
CbusLink *cbus_peer_link(const CbusPeer *peer);
const CbusKey *cbus_peer_caller(const CbusPeer *peer);
/* The configuration may say something else about its line's policy. */
void cbus_peer_renew_policy(CbusPeer *peer);
/* TRUE if ENTRY (or NULL: no line) is the line under which the link was made. */
gboolean cbus_peer_is_under(const CbusPeer *peer, const CbusTableEntry *entry);
