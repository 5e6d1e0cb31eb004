/** The parent's log: one JSON object a line with time, level and event (pino), and only what log-events.ts lists. */
import { pino } from 'pino';
import { LOG_EVENTS, type LogLevel } from './log-events.ts';

export interface LogEntry {
  readonly event: string;
  /** In place of the event's own level. */
  readonly level?: LogLevel;
  readonly [field: string]: unknown;
}

export type Log = (entry: LogEntry) => void;

export interface LogStream {
  write(line: string): unknown;
  /** Bytes that it holds because nobody has taken them yet. */
  readonly writableLength?: number;
}

const TEXT_MAX_CHARS = 1_000;
/** Of each event: an enclave that somebody has taken over can cause most of them as often as it likes. */
const LINES_PER_SECOND = 100;
/** Node keeps what a pipe does not take, so a reader that stands still would cost memory without an end. */
const WAITING_MAX_BYTES = 1024 * 1024;

/** What is too much for reader or disk is left out, and counted by the next line that passes. */
export function operatorLog(stream: LogStream, nowMs: () => number = () => performance.now()): Log {
  const seconds = new Map<string, { readonly second: number; lines: number }>();
  let dropped = 0;

  function mayPass(event: string): boolean {
    if ((stream.writableLength ?? 0) > WAITING_MAX_BYTES) return false;
    const second = Math.floor(nowMs() / 1_000);
    const found = seconds.get(event);
    const current = found?.second === second ? found : { second, lines: 0 };
    seconds.set(event, current);
    current.lines += 1;
    return current.lines <= LINES_PER_SECOND;
  }

  const logger = pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    stream,
  );
  return ({ event, level, ...fields }) => {
    const known = Object.hasOwn(LOG_EVENTS, event) ? LOG_EVENTS[event] : undefined;
    if (!mayPass(known === undefined ? 'unlisted' : event)) {
      dropped += 1;
      return;
    }
    if (dropped > 0) {
      logger.warn({ event: 'log-dropped', count: dropped });
      dropped = 0;
    }
    if (known === undefined) {
      // Not silence, because something did happen; but none of its fields.
      logger.warn({ event: 'unlisted', name: event.slice(0, TEXT_MAX_CHARS) });
      return;
    }
    const shown = known.fields.flatMap((name) => {
      const value = loggable(fields[name]);
      return value === undefined ? [] : [[name, value] as const];
    });
    logger[level ?? known.level]({ event, ...Object.fromEntries(shown) });
  };
}

type Loggable = string | number | boolean | Readonly<Record<string, number>>;

/** Numbers, words and counters; an error or any other object, whose members nobody listed, is left out. */
function loggable(value: unknown): Loggable | undefined {
  if (typeof value === 'string') return value.slice(0, TEXT_MAX_CHARS);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const members = Object.entries(value as object);
  const numbers = members.length > 0 && members.every(([, member]) => typeof member === 'number');
  return numbers ? (value as Record<string, number>) : undefined;
}
