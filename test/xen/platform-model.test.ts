/** Random operations of several domains on grant tables and event channels, against a plain reference after each. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { XEN_WORDS } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { ReferenceDomain, ReferenceXen, Refused } from "./platform-reference.js";

const FRAMES = 8;
const REFS = [8, 9, 10, 11];
const DOMAINS = 4;
const PORTS = 7;

class Run {
  readonly xen = new Hypervisor(FRAMES * 4096);
  readonly model = new ReferenceXen();
  readonly domains = Array.from({ length: DOMAINS }, (_, domid) => {
    const pages = domid === 0 ? this.xen.dom0 : this.xen.create(FRAMES * 4096).pages;
    const reference = new ReferenceDomain(FRAMES * 4096);
    this.model.domains.set(domid, reference);
    if (domid === 0) reference.take({ state: "virq", virq: 3 });
    else for (const _page of ["xenstore", "console"]) reference.take({ state: "unbound", domid: 0 });
    const platform = simulatedPlatform(pages, 0);
    const ran: number[] = [];
    if (domid !== 0) for (const number of [1, 2]) platform.events.listen(number, () => ran.push(number));
    const bytes = Buffer.from(pages.memory);
    const scratch = Buffer.alloc(4096, domid);
    reference.scratch.fill(domid);
    return { domid, pages, platform, reference, ran, bytes, scratch, entries: new Int32Array(pages.grantTable) };
  });
  /** Handles of the reference's mappings, in their order. */
  handles: { mapper: number; granter: number; handle: number }[] = [];

  constructor() {
    // Every domain sees every other's memory, as a driver domain would.
    for (const one of this.domains) for (const other of this.domains) one.platform.introduce(other.pages);
  }

  mapped(mapper: number, status: number, granter: number): void {
    if (status < 0) return;
    const mine = this.handles.filter((each) => each.mapper === mapper);
    expect(mine.map(({ handle }) => handle)).not.toContain(status);
    this.handles.push({ mapper, granter, handle: status });
  }

  /** Everything that can be seen is as the reference says. */
  check(): void {
    for (const { domid, platform, reference, bytes, scratch, entries, pages } of this.domains) {
      expect(bytes.equals(reference.memory)).toBe(true);
      expect(scratch.equals(reference.scratch)).toBe(true);
      const count = this.model.mappings.filter(({ granter }) => granter === domid).length;
      expect(this.xen.domain(domid)?.foreignMaps ?? 0).toBe(count);
      expect(this.xen.domain(domid) !== undefined).toBe(reference.alive || count > 0);
      for (const ref of REFS) {
        const pins = [false, true].map((writable) => this.model.pins(domid, ref, writable));
        const bits = (pins[0]! + pins[1]! > 0 ? 8 : 0) | (pins[1]! > 0 ? 16 : 0);
        expect(entries[ref * 2]! & 24).toBe(bits);
      }
      if (!reference.alive) continue;
      expect(platform.foreign.mapped).toBe(this.handles.filter(({ mapper }) => mapper === domid).length);
      for (let port = 1; port <= PORTS; port++)
        expect(platform.hypercalls.portStatus(port)).toMatchObject(reference.ports.get(port) ?? { state: "closed" });
      expect(new Int32Array(pages.xen)[XEN_WORDS.lock]).toBe(0);
    }
  }
}

type Step = (run: Run) => void;
const domid = fc.nat(DOMAINS - 1);
const ref = fc.constantFrom(...REFS, 12, 511, 512, -1);
const port = fc.integer({ min: -1, max: PORTS });
const step = <T extends unknown[]>(
  values: { [K in keyof T]: fc.Arbitrary<T[K]> },
  apply: (run: Run, ...args: T) => void,
) =>
  fc
    .tuple(...values)
    .map((args) => Object.assign((run: Run) => apply(run, ...(args as T)), { toString: () => `${args}` }));

/** Both refuse for the same reason, or both give the same. */
function same<T>(actual: () => T, expected: () => T): T | undefined {
  let wanted: T;
  try {
    wanted = expected();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    expect(actual).toThrow(expect.objectContaining({ details: { errno: error.message } }));
    return undefined;
  }
  expect(actual()).toEqual(wanted);
  return wanted;
}

const grant = step<[number, number, number, number, boolean]>(
  [domid, fc.constantFrom(...REFS), domid, fc.nat(FRAMES), fc.boolean()],
  ({ domains }, own, which, to, frame, readonly) => {
    const { platform, reference } = domains[own]!;
    if (!reference.alive || reference.entries.has(which)) return;
    reference.entries.set(which, { to, frame, readonly });
    platform.grants.setAccess(which, to, frame, readonly);
  },
);
const revoke = step<[number, number]>([domid, fc.constantFrom(...REFS)], ({ domains, model }, own, which) => {
  const { platform, reference } = domains[own]!;
  if (!reference.alive) return;
  const isFree = model.pins(own, which, false) + model.pins(own, which, true) === 0;
  expect(platform.grants.clearAccess(which)).toBe(isFree);
  if (isFree) reference.entries.delete(which);
});
const map = step<[number, number, number, boolean, number]>(
  [domid, domid, ref, fc.boolean(), fc.constantFrom(1, 1, 1, 1, 130)],
  (run, own, granter, which, writable, times) => {
    const { platform, reference } = run.domains[own]!;
    if (!reference.alive) return;
    for (let i = 0; i < times; i++) {
      const expected = run.model.map(own, granter, which, writable);
      const status = platform.foreign.map(granter, which, writable);
      expect(Math.min(status, 0)).toBe(expected);
      run.mapped(own, status, granter);
    }
  },
);
/** Maps what is granted, by whom it is granted to. */
const mapGranted = step<[number, boolean]>([fc.nat(400), fc.boolean()], (run, which, writable) => {
  const granted = run.domains.flatMap(({ domid: granter, reference }) =>
    [...reference.entries].map(([ref, { to }]) => ({ granter, ref, to })),
  );
  if (granted.length === 0) return;
  const { granter, ref, to } = granted[which % granted.length]!;
  const { platform, reference } = run.domains[to]!;
  if (!reference.alive) return;
  const expected = run.model.map(to, granter, ref, writable);
  const status = platform.foreign.map(granter, ref, writable);
  expect(Math.min(status, 0)).toBe(expected);
  run.mapped(to, status, granter);
});
const unmap = step<[number, number]>([domid, fc.nat(400)], (run, own, which) => {
  const { platform, reference } = run.domains[own]!;
  if (!reference.alive) return;
  const at = run.handles.findIndex(({ mapper, handle }) => mapper === own && handle === which);
  expect(platform.foreign.unmap(which)).toBe(at < 0 ? GNTST.bad_handle : GNTST.okay);
  if (at < 0) return;
  run.handles.splice(at, 1);
  run.model.mappings.splice(at, 1);
});
const unmapAny = step<[number]>([fc.nat(400)], (run, which) => {
  if (run.handles.length === 0) return;
  const at = which % run.handles.length;
  const [{ mapper, handle }] = run.handles.splice(at, 1) as [Run["handles"][number]];
  run.model.mappings.splice(at, 1);
  expect(run.domains[mapper]!.platform.foreign.unmap(handle)).toBe(GNTST.okay);
});
const write = step<[number, number, number]>([fc.nat(400), fc.nat(4095), fc.nat(255)], (run, which, at, value) => {
  if (run.handles.length === 0) return;
  const index = which % run.handles.length;
  const { mapper, handle } = run.handles[index]!;
  const { granter, frame, writable } = run.model.mappings[index]!;
  const page = run.domains[mapper]!.platform.foreign.page(handle);
  const memory = run.model.domains.get(granter)!.memory;
  expect(page[at]).toBe(memory[frame * 4096 + at]);
  if (writable) memory[frame * 4096 + at] = page[at] = value;
});
const end = fc.option(fc.record({ domid, ref, offset: fc.constantFrom(0, 1, 512, 4095, 4096, -1) }));
const copy = step<
  [
    number,
    { domid: number; ref: number; offset: number } | null,
    typeof end extends fc.Arbitrary<infer E> ? E : never,
    number,
  ]
>([domid, end, end, fc.constantFrom(0, 1, 511, 3584, 4096, 4097, -1)], ({ domains, model }, own, from, to, length) => {
  const { platform, reference, scratch } = domains[own]!;
  if (!reference.alive) return;
  const expected = () => {
    if (length === 0) return GNTST.okay;
    const fits = (one: typeof from) => one === null || (one.offset >= 0 && one.offset + length <= 4096);
    if (length < 0 || length > 4096 || !fits(from) || !fits(to)) return GNTST.bad_copy_arg;
    const source = model.end(own, from ?? reference.scratch, length, false);
    if (typeof source === "number") return source;
    const dest = model.end(own, to ?? reference.scratch, length, true);
    if (typeof dest === "number") return dest;
    source.copy(dest);
    return GNTST.okay;
  };
  // Of one entry: the reference counts no pin of the copy's other end, which matters only at 128.
  const status = expected();
  expect(platform.foreign.copy([{ source: from ?? scratch, dest: to ?? scratch, length }])).toEqual([status]);
});
const alloc = step<[number, number]>([domid, domid], ({ domains }, own, remote) => {
  const { platform, reference, ran } = domains[own]!;
  if (!reference.alive || reference.ports.size >= PORTS) return;
  const taken = platform.events.allocUnbound(remote);
  expect(taken).toBe(reference.take({ state: "unbound", domid: remote }));
  platform.events.listen(taken, () => ran.push(taken));
});
const bind = step<[number, number, number]>([domid, domid, port], ({ domains, model }, own, remote, remotePort) => {
  const { platform, reference, ran } = domains[own]!;
  if (!reference.alive || reference.ports.size >= PORTS) return;
  const bound = same(
    () => platform.events.bindInterdomain(remote, remotePort),
    () => model.bind(own, remote, remotePort),
  );
  if (bound !== undefined) platform.events.listen(bound, () => ran.push(bound));
});
/** Binds what is unbound, by whom it is meant for. */
const bindMeant = step<[number]>([fc.nat(400)], ({ domains, model }, which) => {
  const meant = domains.flatMap(({ domid: remote, reference }) =>
    [...reference.ports].flatMap(([number, there]) =>
      there.state === "unbound" ? [{ remote, number, own: there.domid }] : [],
    ),
  );
  if (meant.length === 0) return;
  const { remote, number, own } = meant[which % meant.length]!;
  const { platform, reference, ran } = domains[own]!;
  if (!reference.alive || reference.ports.size >= PORTS) return;
  const bound = platform.events.bindInterdomain(remote, number);
  expect(bound).toBe(model.bind(own, remote, number));
  platform.events.listen(bound, () => ran.push(bound));
});
const send = step<[number, number]>([domid, port], ({ domains, model }, own, which) => {
  const { platform, reference } = domains[own]!;
  if (!reference.alive) return;
  same(
    () => platform.events.notify(which),
    () => model.send(own, which),
  );
});
const close = step<[number, number]>([domid, fc.integer({ min: 2, max: PORTS })], ({ domains, model }, own, which) => {
  const { platform, reference } = domains[own]!;
  if (!reference.alive) return;
  model.close(own, which);
  platform.events.close(which);
});
const mask = step<[number, number, boolean]>(
  [domid, fc.integer({ min: 1, max: PORTS }), fc.boolean()],
  ({ domains }, own, which, on) => {
    const { platform, reference } = domains[own]!;
    if (!reference.alive || (own === 0 && which === 1)) return;
    if (on) reference.masked.add(which);
    else reference.masked.delete(which);
    if (on) platform.events.mask(which);
    else platform.events.unmask(which);
  },
);
const dispatch = step<[number]>([domid], ({ domains, model }, own) => {
  const { platform, reference, ran } = domains[own]!;
  if (!reference.alive) return;
  const listened = model.dispatch(own).filter((each) => reference.ports.has(each));
  platform.vcpu.dispatch();
  expect(ran.splice(0).sort((a, b) => a - b)).toEqual(listened);
});
const destroy = step<[number]>([fc.integer({ min: 1, max: DOMAINS - 1 })], (run, own) => {
  if (!run.domains[own]!.reference.alive) return;
  run.model.destroy(own);
  run.handles = run.handles.filter(({ mapper }) => mapper !== own);
  run.xen.destroy(own);
});

const steps: fc.Arbitrary<Step>[] = [
  ...Array(4).fill(grant),
  revoke,
  ...Array(4).fill(map),
  ...Array(6).fill(mapGranted),
  unmap,
  ...Array(4).fill(unmapAny),
  write,
  ...Array(4).fill(copy),
  ...[alloc, alloc, bind, bindMeant, bindMeant, send, send, send, close, mask, dispatch, dispatch],
];

test("every status, bit, count, port and byte is as the reference says", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 60, arbitrary: fc.oneof(...steps) }, { weight: 1, arbitrary: destroy }), {
        maxLength: 120,
        size: "max",
      }),
      (chosen) => {
        const run = new Run();
        for (const apply of chosen) {
          apply(run);
          run.xen.platform.vcpu.dispatch();
          run.check();
        }
      },
    ),
    { numRuns: 80 },
  );
});
