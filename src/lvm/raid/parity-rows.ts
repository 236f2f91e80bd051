/** RAID 4, 5 and 6: rows of chunks with their parities. Linux drivers/md/raid5.c, raid5_compute_sector. */
import { alignDown } from "../../bytes/align.js";
import { settled } from "./copies.js";
import type { LegIo, LegLayout } from "./leg-io.js";
import { planRow, type RaidLevel, type RowPlan, rowPeriod } from "./levels.js";
import { type Band, changeBand, parityOf, readBand, type Update } from "./parity-band.js";

export interface ParityOptions {
  readonly label: string;
  readonly level: RaidLevel;
  /** Bytes of each leg. */
  readonly legSize: number;
  /** Bytes. */
  readonly chunk: number;
}

export function layParity(io: LegIo, { label, level, legSize, chunk }: ParityOptions): LegLayout {
  const width = io.count - level.parity;
  const rowBytes = chunk * width;
  const plans = Array.from({ length: rowPeriod(io.count) }, (_, row) => planRow(level, io.count, row));
  const planOf = (row: number): RowPlan => plans[row % plans.length]!;
  const legs = Array.from({ length: io.count }, (_, leg) => leg);
  const place = (offset: number) => {
    const within = offset % rowBytes;
    return { row: Math.floor(offset / rowBytes), column: Math.floor(within / chunk), within: within % chunk };
  };

  /** The smallest band that has all the bytes, and what of them belongs to each chunk. */
  const changeRow = (row: number, from: number, data: Uint8Array): Promise<void> => {
    const updates: Update[] = [];
    let [low, high] = [chunk, 0];
    for (let done = 0; done < data.length; ) {
      const within = (from + done) % chunk;
      const length = Math.min(chunk - within, data.length - done);
      const column = Math.floor((from + done) / chunk);
      updates.push({ column, from: within, data: data.subarray(done, done + length) });
      [low, high] = [Math.min(low, within), Math.max(high, within + length)];
      done += length;
    }
    const band = { plan: planOf(row), at: row * chunk + low, length: high - low };
    return changeBand(
      io,
      label,
      band,
      updates.map((update) => ({ ...update, from: update.from - low })),
    );
  };

  /** `from`: byte of the row's data; `done`: bytes of the range before it. */
  const eachRow = async (
    offset: number,
    length: number,
    work: (row: number, from: number, length: number, done: number) => Promise<void>,
  ) => {
    for (let done = 0; done < length; ) {
      const from = (offset + done) % rowBytes;
      const part = Math.min(rowBytes - from, length - done);
      await work(Math.floor((offset + done) / rowBytes), from, part, done);
      done += part;
    }
  };

  const recoverBand = async (band: Band, repair: boolean): Promise<boolean> => {
    const { plan, at } = band;
    const { columns, p, q, unreadable } = await readBand(io, label, band);
    const parities = parityOf(columns, band);
    const wrong = plan.data.flatMap((leg, i) =>
      !io.isCurrent(leg) || unreadable.includes(leg) ? [{ leg, block: columns[i]!.block! }] : [],
    );
    if (!p || Buffer.compare(p, parities.p) !== 0) wrong.push({ leg: plan.p, block: parities.p });
    if (plan.q !== null && (!q || Buffer.compare(q, parities.q!) !== 0))
      wrong.push({ leg: plan.q, block: parities.q! });
    const mendable = wrong.filter(({ leg }) => io.takesWrites(leg));
    if (repair) for (const { leg, block } of mendable) await io.write(leg, at, block);
    return mendable.length > 0;
  };

  /** Whole chunks of zeros that all legs have from `at` on, within `length`. */
  const zeroRows = async (at: number, length: number): Promise<number> => {
    let zeros = length;
    for (const leg of legs) {
      if (!io.takesWrites(leg)) return 0;
      const run = await io.zeroRun(leg, at, zeros);
      zeros = run.zero ? alignDown(run.length, chunk) : 0;
      if (zeros === 0) return 0;
    }
    return zeros;
  };

  return {
    syncSize: legSize,
    syncRange(offset, length) {
      const start = Math.floor(offset / rowBytes) * chunk;
      return { offset: start, length: Math.ceil((offset + length) / rowBytes) * chunk - start };
    },
    legRange: (offset, length) => ({ offset, length }),
    isComplete: (present) => present.filter((there) => !there).length <= level.parity,
    async read(offset, into, locked) {
      for (let done = 0; done < into.length; ) {
        const { row, column, within } = place(offset + done);
        const band = {
          plan: planOf(row),
          at: row * chunk + within,
          length: Math.min(chunk - within, into.length - done),
        };
        const leg = band.plan.data[column]!;
        const part = into.subarray(done, done + band.length);
        if (!io.isCurrent(leg) || !(await io.read(leg, band.at, part))) {
          if (!locked) return false;
          const { columns, unreadable } = await readBand(io, label, band);
          part.set(columns[column]!.block!);
          if (unreadable.includes(leg)) await io.heal(leg, band.at, part);
        }
        done += band.length;
      }
      return true;
    },
    write: (offset, data) =>
      eachRow(offset, data.length, (row, from, length, done) =>
        changeRow(row, from, data.subarray(done, done + length)),
      ),
    zero: (offset, length) =>
      eachRow(offset, length, async (row, from, part) => {
        if (part < rowBytes) return changeRow(row, from, new Uint8Array(part));
        // Parities of zeros are zeros.
        await settled(legs.filter((leg) => io.takesWrites(leg)).map((leg) => io.zero(leg, row * chunk, chunk)));
      }),
    async recover(offset, length, repair) {
      let different = 0;
      for (let done = 0; done < length; ) {
        const at = offset + done;
        const part = Math.min(chunk - (at % chunk), length - done);
        if (await recoverBand({ plan: planOf(Math.floor(at / chunk)), at, length: part }, repair)) different += part;
        done += part;
      }
      return different;
    },
    async run(offset, length) {
      const { row, column, within } = place(offset);
      const ahead = column * chunk + within;
      const zeros = legs.every((leg) => io.isCurrent(leg))
        ? await zeroRows(row * chunk, Math.min(legSize - row * chunk, Math.ceil((ahead + length) / rowBytes) * chunk))
        : 0;
      return { zero: zeros > 0, length: Math.min(length, zeros > 0 ? zeros * width - ahead : rowBytes - ahead) };
    },
  };
}
