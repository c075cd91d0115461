-- The members of events' data that lists are narrowed by, so that no list reads the data of every event.
ALTER TABLE events ADD COLUMN account_id TEXT;
ALTER TABLE events ADD COLUMN notification_id TEXT;
ALTER TABLE events ADD COLUMN notification_code TEXT;
UPDATE events SET account_id = json_extract(data, '$.accountId')
    WHERE json_type(data, '$.accountId') = 'text';
UPDATE events SET notification_id = json_extract(data, '$.notificationId')
    WHERE json_type(data, '$.notificationId') = 'text';
UPDATE events SET notification_code = json_extract(data, '$.notificationCode')
    WHERE json_type(data, '$.notificationCode') = 'text';
CREATE INDEX events_by_account ON events (organization, account_id, sequence) WHERE account_id IS NOT NULL;
CREATE INDEX events_by_notification ON events (organization, notification_id, sequence)
    WHERE notification_id IS NOT NULL;
CREATE INDEX events_by_notification_code ON events (organization, notification_code, sequence)
    WHERE notification_code IS NOT NULL;
