-- Which events a row counts, besides how many: the sum of their seq, modulo 2^63. Rows of before have none.

ALTER TABLE campaign_windows ADD COLUMN seq_sum INTEGER;

ALTER TABLE page_totals ADD COLUMN seq_sum INTEGER;
