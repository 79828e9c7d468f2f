// Preact and htm as one: what every view imports. Text in a template is always text, never markup.
import { Fragment, h, render } from "./vendor/preact-11.2.0/preact.mjs";
import htm from "./vendor/htm-3.1.1/htm.mjs";

export { Fragment, h, render };
export {
  useCallback,
  useEffect,
  useErrorBoundary,
  useId,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "./vendor/preact-11.2.0/hooks.mjs";

export const html = htm.bind(h);
