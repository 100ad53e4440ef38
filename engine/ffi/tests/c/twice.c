/* A second unit that includes the header, and includes it twice. */
#include "keyrange.h"
#include "keyrange.h"

kr_status second_unit(void);

kr_status second_unit(void)
{
    return kr_abi_check(KR_ABI_VERSION);
}
