/** The parent's log: one JSON object a line with time, level and event (pino), and only what log-events.ts lists. */
import { type DestinationStream, pino } from 'pino';
import { LOG_EVENTS, type LogLevel } from './log-events.ts';

export interface LogEntry {
  readonly event: string;
  /** In place of the event's own level. */
  readonly level?: LogLevel;
  readonly [field: string]: unknown;
}

export type Log = (entry: LogEntry) => void;

const TEXT_MAX_CHARS = 1_000;

/** Writes to `stream` at once; a line never waits in memory for another one. */
export function operatorLog(stream: DestinationStream): Log {
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
