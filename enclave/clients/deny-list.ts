export interface DenyListWatch {
  current(now: Date): { denies(x: object): boolean } | undefined;
  onChange(listener: () => void): void;
}
