/** What a thread and the one that waits for its descriptors share. */
export const READINESS = { idle: 0, armed: 1, stopped: 2 } as const;

export type ReadinessEvent = "readable" | "writer-closed";

export interface ReadinessThreadData {
  /** One word, of `READINESS`. */
  readonly state: Int32Array<SharedArrayBuffer>;
  /** Waited for only while armed. */
  readonly connection: number;
  /** An inotify descriptor. */
  readonly writers: number;
  /** An event descriptor: the state has changed. */
  readonly signal: number;
}
