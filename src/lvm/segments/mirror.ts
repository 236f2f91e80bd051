/** Mirror segments (dm-mirror), with their log on a volume or without one. */
import { DiskError } from "../../errors.js";
import { SECTOR } from "../layout.js";
import { findVolume, numberField, type Segment, textField, volumeSize } from "../metadata.js";
import { layCopies } from "../raid/copies.js";
import { MirrorLogRecord, readMirrorLog } from "../raid/mirror-log.js";
import { NO_RECORD } from "../raid/record.js";
import { Regions } from "../raid/regions.js";
import { openLeg, startSet } from "./legs.js";
import { type OpenContext, segmentSize, type Target } from "./target.js";

export async function openMirror(context: OpenContext, segment: Segment): Promise<Target> {
  const { label, writable, group, volume } = context;
  const size = segmentSize(group, segment);
  const regionSize = (numberField(segment, "region_size") ?? 0) * SECTOR;
  if (regionSize < SECTOR || !Number.isInteger(Math.log2(regionSize)))
    throw new DiskError(
      "CORRUPT",
      `Cannot open ${label}: its region size is ${regionSize} bytes, allowed are powers of two`,
    );
  const images = [];
  for (const area of segment.areas) images.push(await openLeg(context, area, size));
  const count = Math.ceil(size / regionSize);
  const logName = textField(segment, "mirror_log");
  const log =
    logName === null
      ? null
      : await openLeg(context, { kind: "lv", lv: logName, le: 0 }, volumeSize(group, findVolume(group, logName)));
  if (writable && (images.includes(null) || (logName !== null && !log)))
    throw new DiskError(
      "IO",
      `Cannot open ${label} for writing: a leg or the log of the mirror is missing, 'xvd lvconvert --repair' goes on without it`,
    );
  const dirty = log
    ? await readMirrorLog(log, count)
    : volume.status.includes("NOTSYNCED")
      ? new Regions(count)
      : Regions.all(count);
  return startSet(context, {
    label,
    size,
    writable,
    legs: images.map((image) => ({ image, slow: false })),
    assembled: {
      legs: images.map((image) => (image ? "in sync" : "failed")),
      dirty,
      stale: Regions.from(count, dirty.bits),
      behind: new Map(),
      agreed: true,
    },
    record: log ? new MirrorLogRecord(log) : NO_RECORD,
    regionSize,
    layout: (io) => layCopies(io, { label, size, chunk: size, copies: io.count }),
  });
}
