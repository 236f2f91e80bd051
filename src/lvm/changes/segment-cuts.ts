/** Segments cut into shorter ones, and joined again where nothing separates them. Every extent stays where it is. Pure. */
import { type Area, areaExtents, type Segment } from "../metadata.js";

/** `at`: extents of each area where a new segment begins. Only segments whose areas are walked side by side: striped ones. */
export function cutSegment(segment: Segment, at: Iterable<number>): Segment[] {
  const each = areaExtents(segment);
  const cuts = [...new Set([0, ...at, each])].filter((cut) => cut >= 0 && cut <= each).sort((a, b) => a - b);
  const width = segment.count / each;
  return cuts.slice(0, -1).map((from, i) => ({
    ...segment,
    start: segment.start + from * width,
    count: (cuts[i + 1]! - from) * width,
    areas: segment.areas.map((area) => areaFrom(area, from)),
  }));
}

/** The area without its first extents. */
export function areaFrom(area: Area, extents: number): Area {
  return area.kind === "pv" ? { ...area, pe: area.pe + extents } : { ...area, le: area.le + extents };
}

/** Segments that continue the one before become part of it. */
export function joinSegments(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (last && continuesSegment(last, segment))
      joined[joined.length - 1] = { ...last, count: last.count + segment.count };
    else joined.push(segment);
  }
  return joined;
}

/** Whether a segment goes on where another one ends, on physical volumes. */
export function continuesSegment(last: Segment, next: Segment): boolean {
  if (last.type !== next.type || last.areas.length !== next.areas.length) return false;
  if (last.tags.length > 0 || next.tags.length > 0 || last.areas.length === 0) return false;
  if (JSON.stringify(last.fields) !== JSON.stringify(next.fields)) return false;
  const each = areaExtents(last);
  return last.areas.every((area, i) => {
    const follow = next.areas[i]!;
    return area.kind === "pv" && follow.kind === "pv" && area.pv === follow.pv && area.pe + each === follow.pe;
  });
}
