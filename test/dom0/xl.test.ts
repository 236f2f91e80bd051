/** Disks of xl's language in the simulated host: what is written for them, and what the guest gets. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AttachRequest } from "#src/dom0/api-types.js";
import { createConfiguredDomain } from "#src/dom0/configured-domain.js";
import type { Host } from "#src/dom0/host.js";
import { createDomainRequest } from "#src/dom0/requests.js";
import { connectNbd } from "#src/nbd/client.js";
import { openDisk } from "#src/stack/disk.js";
import { parseVdev } from "#src/xen/blkif/vdev.js";
import { Toolstack } from "#src/xen/toolstack.js";
import { type StoreTransaction, XenstoreClient } from "#src/xen/xenstore/client.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { localTransport } from "#src/xen/xenstore/transport.js";
import { COMMAND_LINE, parseDiskSpec } from "#src/xen/xl/disk.js";
import { vbdOfDisk } from "#src/xen/xl/vbd.js";
import { fixture } from "../partitions/fixtures.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { testHost } from "./host-support.js";

const dir = tempDir();
let host: Host;
let store: XenstoreClient;

beforeAll(async () => {
  ({ host, store } = await testHost(dir));
});
afterAll(() => host.stop());

function request(spec: string): AttachRequest {
  const { vdev, target, access, options } = vbdOfDisk(parseDiskSpec([spec], COMMAND_LINE));
  return { disk: target, vdev: String(vdev.number), access, options };
}

const disk = (name: string, size = 4 << 20) => createRawDisk(dir, name, size);
const backend = (domid: number, devid: number) => `/local/domain/0/backend/vbd/${domid}/${devid}`;

describe("keys", () => {
  test("all three directories are written in one transaction, each with its permissions", async () => {
    const writes: { path: string; tx: number | undefined }[] = [];
    class Recorder extends XenstoreClient {
      override write(path: string, value: string | Uint8Array, tx?: StoreTransaction): Promise<void> {
        writes.push({ path, tx: tx?.id });
        return super.write(path, value, tx);
      }
    }
    const xenstored = new Xenstored();
    const toolstack = new Toolstack({
      store: new Recorder(localTransport(xenstored, 0)),
      script: { add: () => Promise.reject(new Error("not reached")), remove: async () => {} },
      timeoutMs: 20,
    });
    const spec = { vdev: parseVdev("xvda"), target: "/a", writable: true };
    await expect(toolstack.attach(5, spec)).rejects.toMatchObject({ message: expect.stringContaining("InitWait") });
    const dirs = [backend(5, 51712), "/local/domain/5/device/vbd/51712", "/libxl/5/device/vbd/51712"];
    const first = writes.find(({ path }) => path.startsWith(dirs[0]!))!;
    expect(first.tx).toBeGreaterThan(0);
    for (const dir of dirs) {
      const inside = writes.filter(({ path }) => path.startsWith(`${dir}/`));
      expect(inside.length).toBeGreaterThan(5);
      expect(new Set(inside.map(({ tx }) => tx))).toEqual(new Set([first.tx]));
    }
  });

  test("the copy below /libxl is frozen: what the drivers write later is not in it", async () => {
    const { domid } = await host.createDomain("frozen");
    await host.attach({
      ...request(`${disk("frozen.dsk")},raw,xvda,w,no-discard,untrusted,direct-io-safe`),
      domain: "frozen",
    });
    const copy = `/libxl/${domid}/device/vbd/51712`;
    expect(
      await store.readMany(copy, ["state", "dev", "discard-enable", "direct-io-safe", "sectors", "backend"]),
    ).toEqual({
      state: "1",
      dev: "xvda",
      "discard-enable": "0",
      "direct-io-safe": "1",
      sectors: null,
      backend: backend(domid, 51712),
    });
    expect(await store.read(`/local/domain/${domid}/device/vbd/51712/trusted`)).toBe("0");
    expect(await store.read(`${backend(domid, 51712)}/state`)).toBe("4");
  });

  test("a cdrom is removable, read-only, and its info says so", async () => {
    const { domid } = await host.createDomain("cd");
    const device = await host.attach({ ...request(`${disk("cd.iso")},raw,hdc:cdrom,w`), domain: "cd" });
    expect(device).toMatchObject({ vdev: "hdc", number: 5632, access: "ro", state: "Connected" });
    expect(await store.readMany(backend(domid, 5632), ["removable", "device-type", "mode", "info"])).toEqual({
      removable: "1",
      "device-type": "cdrom",
      mode: "r",
      info: "5", // CDROM | READONLY
    });
    const client = await connectNbd(`nbd+unix:///?socket=${device.socket}`);
    await expect(client.write(0, new Uint8Array(512))).rejects.toMatchObject({ code: "READ_ONLY" });
    await client.close();
  });

  test("QEMU's kind of disk is served by our backend too", async () => {
    const { domid } = await host.createDomain("qdisk");
    const path = disk("q.dsk");
    const device = await host.attach({ ...request(`${path},raw,xvda,w,backendtype=qdisk`), domain: "qdisk" });
    expect(device.state).toBe("Connected");
    expect(await store.readMany(backend(domid, 51712), ["type", "params", "script"])).toEqual({
      type: "qdisk",
      params: `aio:${path}`,
      script: null,
    });
  });
});

test("no-discard: the backend offers none, and a guest's discard changes nothing", async () => {
  const { domid } = await host.createDomain("nodiscard");
  const path = disk("nodiscard.dsk");
  writeFileSync(path, Buffer.alloc(1 << 20, 0x5a));
  for (const [flag, offered] of [
    ["no-discard", "0"],
    ["discard", "1"],
  ] as const) {
    const device = await host.attach({ ...request(`${path},raw,xvda,w,${flag}`), domain: "nodiscard" });
    const keys = await store.readMany(backend(domid, 51712), ["feature-discard", "discard-granularity"]);
    expect(keys["feature-discard"]).toBe(offered);
    expect(keys["discard-granularity"] === null).toBe(offered === "0");
    const client = await connectNbd(`nbd+unix:///?socket=${device.socket}`);
    await client.discard(0, 512 << 10);
    const bytes = new Uint8Array(4096);
    await client.read(64 << 10, bytes);
    expect(bytes[0]).toBe(offered === "0" ? 0x5a : 0);
    await client.close();
    await host.detach("xvda", { domain: "nodiscard", force: true });
  }
});

test("a classic disk shows fifteen of twenty partitions, an extended one all of them", async () => {
  const path = join(dir, "twenty.dsk");
  writeFileSync(path, fixture("gpt-twenty"));
  await host.createDomain("many");
  for (const [vdev, last] of [
    ["xvda", 15],
    ["hdc", 15],
    ["xvdq", 20],
  ] as const) {
    const device = await host.attach({ ...request(`${path},raw,${vdev},r`), domain: "many" });
    expect(device.partitions.map(({ number }) => number).at(-1)).toBe(last);
    expect(device.partitions).toHaveLength(last);
  }
});

test.each([
  ["xvda", "hda"],
  ["xvda", "sda"],
  ["hdc", "xvdc"],
  ["xvdb", "xvdb3"],
  ["xvdb3", "51728"],
  ["xvda", "xvda16"],
  ["xvdq", "d16p0"],
])("%s excludes %s: a guest has one device of the two", async (first, second) => {
  const name = `both-${first}-${second}`;
  await host.createDomain(name);
  await host.attach({ ...request(`${disk(`${name}-1`)},raw,${first},w`), domain: name });
  await expect(host.attach({ ...request(`${disk(`${name}-2`)},raw,${second},w`), domain: name })).rejects.toMatchObject(
    { code: "DENIED", message: expect.stringContaining("is attached as") },
  );
  await host.destroyDomain(name);
});

describe("a domain with its disks", () => {
  test("is told to the store as its configuration says", async () => {
    const uuid = "00112233-4455-6677-8899-aabbccddeeff";
    const config = { type: "pvh", memory: 24 << 10, maxmem: 32 << 10, vcpus: 3, uuid };
    const { domid } = await createConfiguredDomain(host, { name: "told", config });
    const home = `/local/domain/${domid}`;
    expect(await store.read(`${home}/memory/target`)).toBe(String(24 << 20)); // KiB
    expect(await store.read(`${home}/memory/static-max`)).toBe(String(32 << 20));
    expect(await store.directory(`${home}/cpu`)).toEqual(["0", "1", "2"]);
    expect(await store.read(`${home}/vm`)).toBe(`/vm/${uuid}`);
    expect(await store.readMany(`/vm/${uuid}`, ["name", "uuid"])).toEqual({ name: "told", uuid });
    expect(await store.read(`/libxl/${domid}/type`)).toBe("pvh");
    await expect(createConfiguredDomain(host, { name: "twin", config })).rejects.toMatchObject({ code: "DENIED" });
    await host.destroyDomain("told");
    expect(await store.readOrNull(`/vm/${uuid}`)).toBeNull();
    await createConfiguredDomain(host, { name: "twin", config });
  });

  test("its disks come in order; when one fails, nothing is left and the error names it", async () => {
    const [a, b] = [disk("order-a"), disk("order-b")];
    const wanted = { name: "order", disks: [request(`${a},raw,xvdb,w`), request(`${b},raw,xvda,r`)] };
    const domain = await createConfiguredDomain(host, wanted);
    expect(domain.devices.map(({ vdev, access }) => [vdev, access])).toEqual([
      ["xvdb", "rw"],
      ["xvda", "ro"],
    ]);
    await host.destroyDomain("order");
    const broken = { ...wanted, disks: [...wanted.disks, request(`${dir}/nothere,raw,xvdc,w`)] };
    await expect(createConfiguredDomain(host, broken)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringMatching(
        /^Cannot create domain order: disk 3 of 3: cannot open .*nothere.*; everything is taken back$/,
      ),
      details: { disk: 3 },
    });
    expect((await host.domains()).map(({ name }) => name)).not.toContain("order");
    for (const path of [a, b]) await (await openDisk(path, { writable: true })).close();
  });

  test("two at once of one name are one domain", async () => {
    const wanted = { name: "once", disks: [request(`${disk("once")},raw,xvda,w`)] };
    const made = await Promise.allSettled([createConfiguredDomain(host, wanted), createConfiguredDomain(host, wanted)]);
    expect(made.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect((await host.domain("once")).devices).toHaveLength(1);
  });

  test.each([
    ["no name", {}],
    ["a name that is no text", { name: 7 }],
    ["disks that are no list", { name: "x", disks: {} }],
    ["a disk that is no object", { name: "x", disks: ["/a"] }],
    ["a disk without a disk", { name: "x", disks: [{}] }],
    ["too many vcpus", { name: "x", config: { vcpus: 1e9 } }],
    ["no memory", { name: "x", config: { memory: 0 } }],
    ["half a MiB", { name: "x", config: { memory: 0.5 } }],
    ["a config that is no object", { name: "x", config: [] }],
    ["options of another backend", { name: "x", disks: [{ disk: "/a", options: { backendType: "tap" } }] }],
    ["a flag that is none", { name: "x", disks: [{ disk: "/a", options: { cdrom: "yes" } }] }],
  ])("a request with %s is refused", (_, body) => {
    expect(() => createDomainRequest(body)).toThrow(expect.objectContaining({ code: "PROTOCOL" }));
  });
});

describe("block-list", () => {
  test("shows what the store says, and -1 for what a guest left out or wrote wrong", async () => {
    const { domid } = await host.createDomain("listed");
    await host.attach({ ...request(`${disk("listed-1")},raw,xvdq,w`), domain: "listed" });
    await host.attach({ ...request(`${disk("listed-2")},raw,xvda,w`), domain: "listed" });
    const [first, second] = await host.blockDevices("listed");
    expect(first).toMatchObject({ vdev: "xvda", devid: 51712, "backend-id": 0, handle: domid, state: 4 });
    expect(first!["ring-ref"]).toBeGreaterThan(0);
    expect(second).toMatchObject({ devid: 268439552, "backend-path": backend(domid, 268439552) });
    const frontend = `/local/domain/${domid}/device/vbd/51712`;
    await store.rm(`${frontend}/ring-ref`);
    await store.write(`${frontend}/event-channel`, "99999999999999999999; rm");
    expect((await host.blockDevices(String(domid)))[0]).toMatchObject({
      "ring-ref": -1,
      "event-channel": -1,
      state: 4,
    });
    expect(await host.blockDevices("0")).toEqual([]);
    await expect(host.blockDevices("nobody")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});
