/* The answer to GetManagedObjects on the root, from bytes that are kept. Loop thread only. */
#pragma once
#include "proxy/front.h"
#include "proxy/machine.h"

typedef struct _CbusListing CbusListing;

CbusListing *cbus_listing_new(void);
void cbus_listing_free(CbusListing *listing);
/* What was kept of MACHINE is no longer so, or the machine goes. */
void cbus_listing_forget(CbusListing *listing, const CbusMachine *machine);
/* Answers CALL with all MACHINES and their properties. */
void cbus_listing_reply(CbusListing *listing, const GPtrArray *machines, CbusFront *front,
                        const CbusMessage *call);
