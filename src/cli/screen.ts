/** A terminal that one command draws over again and again: the other screen, no cursor, keys as they are pressed. */
import { fitWidth, printable } from "../bytes/printable.js";

const OTHER_SCREEN = "\x1b[?1049h\x1b[?25l";
const USUAL_SCREEN = "\x1b[?25h\x1b[?1049l";

export interface Screen {
  /** Replaces what is shown; what does not fit is cut off. */
  draw(lines: readonly string[]): void;
  /** Gives the terminal back as it was. Idempotent; also done when the process ends. */
  close(): void;
}

/** Null when stdout is no terminal. `onKey`: each key, control characters included; Ctrl-C is `\x03`. */
export function openScreen(onKey: (key: string) => void): Screen | null {
  const { stdout, stdin } = process;
  if (!stdout.isTTY) return null;
  let shown: readonly string[] = [];
  const draw = (lines: readonly string[]) => {
    shown = lines;
    stdout.write(frame(lines, stdout.columns || 80, stdout.rows || 24)); // some terminals do not know their size
  };
  const redraw = () => draw(shown);
  const keys = (chunk: Buffer) => {
    for (const key of chunk.toString("latin1")) onKey(key);
  };
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    process.off("exit", close);
    stdout.off("resize", redraw);
    stdout.write(USUAL_SCREEN);
    if (!stdin.isTTY) return;
    stdin.off("data", keys).setRawMode(false);
    stdin.pause();
  };
  process.once("exit", close);
  stdout.on("resize", redraw);
  stdout.write(OTHER_SCREEN);
  if (stdin.isTTY) stdin.setRawMode(true).on("data", keys);
  return { draw, close };
}

/** One column less than the terminal has: a full line would wrap on some. */
function frame(lines: readonly string[], columns: number, rows: number): string {
  const visible = lines.slice(0, rows).map((line) => fitWidth(printable(line), Math.max(0, columns - 1)).trimEnd());
  return `\x1b[H${visible.map((line) => `${line}\x1b[K`).join("\r\n")}\x1b[J`;
}
