//! Points in time as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, now.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms)
}

pub fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `30s`, `5m`, `2h`, `1d`.
pub fn parse_ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// Milliseconds since 1970 as a number, or a date with time in UTC: `2026-01-31T12:00:00`, with or without `Z`, a space for
/// the `T`, seconds and time of day.
pub fn parse_ms(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = if time.matches(':').count() == 1 {
        let [hour, minute] = numbers(time, ':')?;
        [hour, minute, 0]
    } else {
        numbers(time, ':')?
    };
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days = in_range.then(|| days_since_1970(year, month, day))?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// A time in UTC as [`parse_ms`] reads it, with milliseconds; one outside of the years 1970 to 9999 as a number.
pub fn text(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    if !(0..=days_since_1970(9999, 12, 31)).contains(&days) {
        return ms.to_string();
    }
    let (mut year, mut left) = (1970, days);
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if left < days {
            break;
        }
        (year, left) = (year + 1, left - days);
    }
    let mut month = 1;
    while left >= days_of_month(year, month) {
        left -= days_of_month(year, month);
        month += 1;
    }
    let of_day = ms.rem_euclid(86_400_000);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", left + 1)
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parts: Vec<i64> = text
        .split(separator)
        .map(|part| Some(part).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|month| days_of_month(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        assert_eq!(parse_ms("1970-01-01"), Some(0));
        assert_eq!(parse_ms("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(parse_ms("2026-11-25 02:03"), Some(1_795_572_180_000));
        assert_eq!(parse_ms("1700000000123"), Some(1_700_000_000_123));
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(text(1_795_572_180_000), "2026-11-25T02:03:00.000Z");
        assert_eq!((text(-1), text(i64::MAX)), ("-1".to_owned(), i64::MAX.to_string()));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["2026-02-29", "2026-13-01", "2026-01-01T24:00:00", "yesterday", "2026-1", "+1-1-1", ""] {
            assert_eq!(parse_ms(text).filter(|_| !text.is_empty()), None, "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_ago("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_ago("1d"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_ago("5"), None);
        assert_eq!(parse_ago("m"), None);
    }
}
