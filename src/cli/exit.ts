/** Ends a command with a code of its own after it has printed its result (`compare`: 1 is "different"). */
export class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}
