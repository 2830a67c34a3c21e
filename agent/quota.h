/* How many channels there may be: 128 of one uid on the bus, and of one caller a hundred connections of
 * portals beside the mirror's pool of 8 (design, "Traps already paid for"). Loop thread only. */
#pragma once
#include "wire/key.h"

#define CBUS_CHANNELS_OF_UID    128
#define CBUS_CHANNELS_OF_CALLER 108

typedef struct _CbusQuota CbusQuota;
CbusQuota *cbus_quota_new(void);
void cbus_quota_free(CbusQuota *quota); /* everything taken must be given back */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusQuota, cbus_quota_free)

/* FALSE: the limit is reached, and nothing was taken. */
gboolean cbus_quota_take_caller(CbusQuota *quota, const CbusKey *caller) G_GNUC_WARN_UNUSED_RESULT;
void cbus_quota_give_caller(CbusQuota *quota, const CbusKey *caller);
gboolean cbus_quota_take_uid(CbusQuota *quota, guint32 uid) G_GNUC_WARN_UNUSED_RESULT;
void cbus_quota_give_uid(CbusQuota *quota, guint32 uid);
