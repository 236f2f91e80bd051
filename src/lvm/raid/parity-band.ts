/**
 * One band of a row: the same bytes of each of its chunks, with their parities. It is read, mended and changed as one.
 *
 * A change reads
 *   nothing                         when it replaces the band as a whole
 *   the old data and the parities   when few chunks change: the difference is added to the parities
 *   the other data                  otherwise, and where parities cannot be trusted
 * Data and parities are written together: a cut between leaves parities that do not fit, which the dirty region tells of.
 */
import { DiskError } from "../../errors.js";
import { settled } from "./copies.js";
import type { LegIo } from "./leg-io.js";
import type { RowPlan } from "./levels.js";
import { addMultiple, type Column, computeParity, power, recoverColumns, xorInto } from "./parity.js";

export interface Band {
  readonly plan: RowPlan;
  /** Where it begins on each leg. */
  readonly at: number;
  readonly length: number;
}

/** New bytes for a part of one data chunk of a band. */
export interface Update {
  /** The chunk's number among the data of the row. */
  readonly column: number;
  /** Within the band. */
  readonly from: number;
  readonly data: Uint8Array;
}

/** A band as it is: the data is whole, parities are null where their leg does not give them. */
export interface Blocks {
  readonly columns: readonly Column[];
  readonly p: Uint8Array | null;
  readonly q: Uint8Array | null;
  /** Data legs that should have their block and cannot read it. */
  readonly unreadable: readonly number[];
}

interface Parities {
  readonly p: Uint8Array;
  readonly q: Uint8Array | null;
}

/** Reads a band and puts together what is lost. Throws `IO` when too much is. */
export async function readBand(io: LegIo, label: string, { plan, at, length }: Band): Promise<Blocks> {
  const unreadable: number[] = [];
  const block = async (leg: number | null) => {
    if (leg === null || !io.isCurrent(leg)) return null;
    const into = new Uint8Array(length);
    if (await io.read(leg, at, into)) return into;
    if (plan.data.includes(leg)) unreadable.push(leg);
    return null;
  };
  const [p, q, ...data] = await Promise.all([plan.p, plan.q, ...plan.data].map(block));
  const columns = data.map((found, i) => ({ block: found!, exponent: plan.exponents[i]! }));
  if (data.every((found) => found !== null)) return { columns, p: p!, q: q!, unreadable };
  if (io.isStale(at, length))
    throw new DiskError(
      "IO",
      `Cannot read ${label}: a leg is missing, and what it held cannot be computed where writes were cut off (byte ${at} of the legs)`,
    );
  if (!recoverColumns(columns, p!, q!, length))
    throw new DiskError("IO", `Cannot read ${label}: more legs are missing than parity makes up for`);
  return { columns, p: p!, q: q!, unreadable };
}

/** The parities that belong to data. */
export function parityOf(columns: readonly Column[], { plan, length }: Band): Parities {
  const parities = { p: new Uint8Array(length), q: plan.q === null ? null : new Uint8Array(length) };
  computeParity(columns, parities);
  return parities;
}

/** `updates`: at most one for each column, ascending. */
export async function changeBand(io: LegIo, label: string, band: Band, updates: readonly Update[]): Promise<void> {
  const { plan, at } = band;
  const { p, q } =
    wholeBand(band, updates) ?? (await byDifference(io, band, updates)) ?? (await byRow(io, label, band, updates));
  const writes = updates.map(({ column, from, data }) => ({ leg: plan.data[column]!, offset: at + from, data }));
  writes.push({ leg: plan.p, offset: at, data: p });
  if (plan.q !== null && q) writes.push({ leg: plan.q, offset: at, data: q });
  const wanted = writes.filter(({ leg }) => io.takesWrites(leg));
  await settled(wanted.map(({ leg, offset, data }) => io.write(leg, offset, data)));
}

function wholeBand(band: Band, updates: readonly Update[]): Parities | null {
  const { data, exponents } = band.plan;
  if (updates.length < data.length || updates.some((update) => update.data.length < band.length)) return null;
  return parityOf(
    updates.map((update, i) => ({ block: update.data, exponent: exponents[i]! })),
    band,
  );
}

/** Null when another way is better, or the only one. */
async function byDifference(
  io: LegIo,
  { plan, at, length }: Band,
  updates: readonly Update[],
): Promise<Parities | null> {
  const parities = plan.q === null ? [plan.p] : [plan.p, plan.q];
  const legs = [...parities, ...updates.map(({ column }) => plan.data[column]!)];
  if (updates.length * 2 > plan.data.length && plan.data.length > 2) return null;
  if (io.isStale(at, length) || !legs.every((leg) => io.isCurrent(leg))) return null;
  const blocks = legs.map(() => new Uint8Array(length));
  const done = await Promise.all(legs.map((leg, i) => io.read(leg, at, blocks[i]!)));
  if (done.includes(false)) return null;
  const p = blocks[0]!;
  const q = plan.q === null ? null : blocks[1]!;
  for (const [i, { column, from, data }] of updates.entries()) {
    const difference = blocks[parities.length + i]!.subarray(from, from + data.length);
    xorInto(difference, data);
    xorInto(p.subarray(from, from + data.length), difference);
    if (q) addMultiple(q.subarray(from, from + data.length), difference, power(plan.exponents[column]!));
  }
  return { p, q };
}

async function byRow(io: LegIo, label: string, band: Band, updates: readonly Update[]): Promise<Parities> {
  const { columns } = await readBand(io, label, band);
  for (const { column, from, data } of updates) columns[column]!.block!.set(data, from);
  return parityOf(columns, band);
}
