/** Our tables against the numbers that a C compiler makes of Xen's headers (fixtures/xen-abi/make-blkif.sh). */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as blkif from "#src/xen/blkif/layout.js";
import { GNTST } from "#src/xen/platform/platform.js";
import { SHARED_INFO } from "#src/xen/platform/simulated/domain-pages.js";
import { ringSize } from "#src/xen/ring.js";

const abi = JSON.parse(readFileSync(new URL("../../fixtures/xen-abi/blkif.json", import.meta.url), "utf8"));
const camel = (name: string) => name.replace(/_(\w)/g, (_all, letter: string) => letter.toUpperCase());

test.each([
  ["request_64", blkif.BLKIF_REQUEST_64],
  ["request_32", blkif.BLKIF_REQUEST_32],
  ["discard_64", blkif.BLKIF_DISCARD_64],
  ["discard_32", blkif.BLKIF_DISCARD_32],
  ["indirect_64", blkif.BLKIF_INDIRECT_64],
  ["indirect_32", blkif.BLKIF_INDIRECT_32],
  ["segment", blkif.BLKIF_SEGMENT],
] as const)("%s", (name, table) => {
  const { size, ...fields } = abi.structs[name];
  expect(table.size).toBe(size);
  const ours = table.fields as Record<string, { offset: number }>;
  for (const [field, offset] of Object.entries(fields))
    expect([field, ours[camel(field)]?.offset]).toEqual([field, offset]);
});

test("response", () => {
  const { size: _padded, ...fields } = abi.structs.response;
  for (const [field, offset] of Object.entries(fields))
    expect((blkif.BLKIF_RESPONSE.fields as Record<string, { offset: number }>)[field]?.offset).toBe(offset);
});

test("shared_info", () => {
  const { evtchn_pending, evtchn_mask, vcpu_info_size, pending_sel } = abi.structs.shared_info;
  expect(SHARED_INFO).toMatchObject({
    evtchnPending: evtchn_pending,
    evtchnMask: evtchn_mask,
    vcpuInfoSize: vcpu_info_size,
    pendingSel: pending_sel,
  });
});

test("numbers", () => {
  const { constants } = abi;
  for (const [name, value] of Object.entries(blkif.BLKIF_OP)) expect(constants[`BLKIF_OP_${name}`]).toBe(value);
  for (const [name, value] of Object.entries(blkif.BLKIF_RSP)) expect(constants[`BLKIF_RSP_${name}`]).toBe(value);
  for (const [name, value] of Object.entries(GNTST))
    if (`GNTST_${name}` in constants) expect(constants[`GNTST_${name}`]).toBe(value);
  expect(blkif.BLKIF_MAX_SEGMENTS_PER_REQUEST).toBe(constants.BLKIF_MAX_SEGMENTS_PER_REQUEST);
  expect(blkif.BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST).toBe(constants.BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
});

test("slots of a ring of 1 to 16 pages, both ABIs", () => {
  expect(ringSize(4096, 112)).toBe(abi.ring_size_64);
  for (const [pages, slots] of [
    [1, 32],
    [2, 64],
    [4, 128],
    [8, 256],
    [16, 512],
  ] as const)
    for (const stride of [112, 108]) expect(ringSize(pages * 4096, stride)).toBe(slots);
});
