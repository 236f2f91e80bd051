import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Host } from "#src/dom0/host.js";
import { SHUTDOWN } from "#src/xen/platform/simulated/hypercalls.js";
import { XENSTORE_REF } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { testHost } from "./host-support.js";

const dir = tempDir();
/** A vcpu of Dom0 that no thread of the host is. */
const SPARE_VCPU = 30;
let host: Host;
let releases = 0;

beforeAll(async () => {
  const t = await testHost(dir);
  host = t.host;
  await t.store.watch("@releaseDomain", "domain-ends", () => releases++);
});
afterAll(() => host.stop());

const until = (condition: () => boolean | Promise<boolean>) => vi.waitUntil(condition, { timeout: 20_000 });
const stateOf = async (which: string) => (await host.domains()).find(({ name }) => name === which)?.state;

test("a domain that Dom0 still has a page of is listed as dying until it lets the page go", async () => {
  const { domid, state } = await host.createDomain("zombie");
  expect(state).toBe("running");
  const dom0 = simulatedPlatform(host.hypervisor.dom0, SPARE_VCPU);
  dom0.introduce(host.hypervisor.pages(domid)!);
  const handle = dom0.foreign.map(domid, XENSTORE_REF, false);
  expect(handle).toBeGreaterThanOrEqual(0);
  const before = releases;
  await host.destroyDomain("zombie");
  expect(await stateOf("zombie")).toBe("dying");
  expect(host.xenstored.isIntroduced(domid)).toBe(false);
  await until(() => releases > before);

  // Its name can be used again, its id cannot.
  const again = await host.createDomain("zombie");
  expect(again.domid).not.toBe(domid);
  expect((await host.domains()).map((domain) => domain.domid)).toContain(domid);
  dom0.foreign.unmap(handle); // VIRQ_DOM_EXC tells Dom0's main thread
  await until(async () => !(await host.domains()).some((domain) => domain.domid === domid));
  expect(await stateOf("zombie")).toBe("running");
  await host.destroyDomain("zombie");
});

test("a domain that its watchdog ended is announced, stays to be looked at, and can be destroyed", async () => {
  const { domid } = await host.createDomain("tired");
  const guest = simulatedPlatform(host.hypervisor.pages(domid)!, 1);
  guest.introduce(host.hypervisor.dom0);
  const before = releases;
  guest.hypercalls.shutdown(SHUTDOWN.watchdog);
  await until(() => releases > before);
  expect(await stateOf("tired")).toBe("shutdown");
  expect(host.hypervisor.domain(domid)).toMatchObject({ state: "shutdown", shutdownReason: SHUTDOWN.watchdog });
  expect(host.xenstored.isIntroduced(domid)).toBe(true);
  await host.destroyDomain("tired");
  expect(await stateOf("tired")).toBeUndefined();
});

test("a domain with a disk leaves nothing mapped and is gone at once", async () => {
  const { domid } = await host.createDomain("tidy");
  await host.attach({ disk: createRawDisk(dir, "tidy.dsk", 1 << 20), domain: "tidy" });
  expect(host.hypervisor.domain(domid)?.foreignMaps).toBeGreaterThan(0);
  await host.destroyDomain("tidy");
  expect(host.hypervisor.domain(domid)).toBeUndefined();
});
