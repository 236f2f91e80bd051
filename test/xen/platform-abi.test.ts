/** Grants, event channels and domains against the numbers that a C compiler makes of Xen's headers (fixtures/xen-abi/make-platform.sh). */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import * as pages from "#src/xen/platform/simulated/domain-pages.js";
import { GTF } from "#src/xen/platform/simulated/grant-entry.js";
import { SHUTDOWN } from "#src/xen/platform/simulated/hypercalls.js";
import { CONSOLE_REF, XENSTORE_REF } from "#src/xen/platform/simulated/hypervisor.js";
import { PORT_STATE } from "#src/xen/platform/simulated/port-table.js";
import { VIRQ } from "#src/xen/platform/simulated/virq.js";
import { twoDomains } from "./ring-pair.js";

const { structs, grantEntriesPerPage, constants } = JSON.parse(
  readFileSync(new URL("../../fixtures/xen-abi/platform.json", import.meta.url), "utf8"),
);
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

test.each([
  ["GNTST", GNTST],
  ["GTF", GTF],
  ["EVTCHNSTAT", PORT_STATE],
  ["SHUTDOWN", { ...SHUTDOWN, soft_reset: SHUTDOWN.softReset }],
  ["VIRQ", Object.fromEntries(Object.entries(VIRQ).map(([name, value]) => [snake(name).toUpperCase(), value]))],
] as const)("%s_*", (prefix, ours) => {
  for (const [name, value] of Object.entries(ours)) {
    const known = [`${prefix}_${name}`, `${prefix}_${snake(name)}`].find((key) => key in constants);
    expect([name, known && constants[known]]).toEqual([name, value]);
  }
});

test("every GNTST status has its name", () => {
  const all = Object.keys(constants).filter((name) => name.startsWith("GNTST_"));
  expect(Object.keys(GNTST).sort()).toEqual(all.map((name) => name.slice("GNTST_".length)).sort());
});

test("tables and limits", () => {
  expect(pages.ENTRIES_PER_FRAME).toBe(grantEntriesPerPage);
  expect(pages.VIRQS).toBe(constants.NR_VIRQS);
  expect(pages.MAX_VCPUS).toBe(constants.XEN_LEGACY_MAX_VCPUS);
  expect(CONSOLE_REF).toBe(constants.GNTTAB_RESERVED_CONSOLE);
  expect(XENSTORE_REF).toBe(constants.GNTTAB_RESERVED_XENSTORE);
  expect(pages.SHARED_INFO).toMatchObject({
    vcpuInfoSize: structs.vcpu_info.size,
    upcallPending: structs.vcpu_info.fields.evtchn_upcall_pending.offset,
    pendingSel: structs.vcpu_info.fields.evtchn_pending_sel.offset,
    evtchnPending: structs.shared_info.fields.evtchn_pending.offset,
    evtchnMask: structs.shared_info.fields.evtchn_mask.offset,
  });
  expect(pages.SHARED_INFO.size).toBeGreaterThanOrEqual(structs.shared_info.size);
});

test("an entry of version 1 as a guest writes it", () => {
  const { guest, pages1 } = twoDomains();
  const { size, fields } = structs.grant_entry_v1;
  const ref = guest.grants.grantAccess(0x1234, 77, true);
  const entry = new DataView(pages1.grantTable, ref * size, size);
  expect(ref).toBe(constants.GNTTAB_NR_RESERVED_ENTRIES); // the first that is not reserved
  expect(entry.getUint16(fields.flags.offset, true)).toBe(constants.GTF_permit_access | constants.GTF_readonly);
  expect(entry.getUint16(fields.domid.offset, true)).toBe(0x1234);
  expect(entry.getUint32(fields.frame.offset, true)).toBe(77);
});
